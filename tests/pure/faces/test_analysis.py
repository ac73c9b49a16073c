"""FACEANALYSIS as other packs use it, ours and insightface's; agreement with insightface; networks on demand.

Runs with the installed insightface and, in a process of its own, with the oldest one that is supported.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import insightface
import numpy as np
import pytest
import torch
from conftest import DEV
from insightface.app.common import Face
from instantid_swift import faces
from instantid_swift.faces import analysis as analysis_module
from instantid_swift.faces import providers
from instantid_swift.faces.analysis import open_face_analysis
from instantid_swift.utils import InstantIDError
from oracle import fixtures as fx
from photos import bgr, close_up, same_face

OLD = insightface.__version__ == "0.7.3"
# Outputs of two dimensions, as antelopev2's; of three for any batch, on which insightface 0.7.3 crashes.
ANTELOPE, OTHERS = "det_500m", [] if OLD else ["scrfd_500m_bnkps"]
both_layouts = pytest.mark.parametrize("root", [ANTELOPE, *OTHERS], indirect=True)


@pytest.fixture(scope="module")
def root(request, tmp_path_factory, face_files):
    """A folder with a detector, the embedder, and a network that InstantID has no use for."""
    folder = tmp_path_factory.mktemp("insightface")
    package = folder / "models" / "antelopev2"
    package.mkdir(parents=True)
    for name in (getattr(request, "param", ANTELOPE), "w600k_mbf", "2d106det"):
        shutil.copy(face_files / f"{name}.onnx", package)
    return folder


@pytest.fixture(scope="module")
def ours(root):
    return open_face_analysis([str(root)], "CPU")


@pytest.fixture(scope="module")
def plain(root):
    """insightface's own, as PuLID's loader makes it."""
    return fx.face_analysis(root)


@pytest.fixture(params=["ours", "plain"])
def analysis(request, ours, plain):
    """FACEANALYSIS from our node, and insightface's own."""
    return ours if request.param == "ours" else plain


@both_layouts
def test_faces_agree_with_insightface(analysis, plain):
    wanted = plain.get(bgr(fx.photo()))
    found, = faces.Photos(analysis, fx.photo()).found
    assert len(found) == len(wanted) == 6
    for face, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(face.box, other.bbox, atol=1e-3)
        np.testing.assert_allclose(face.points, other.kps, atol=1e-3)
        assert face.score == pytest.approx(float(other.det_score), abs=1e-5)
    largest = max(wanted, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
    assert same_face(faces.Photos(analysis, fx.photo()).references()[0, 0], largest.embedding)


@both_layouts
def test_get_gives_what_insightface_gives(ours, plain):
    wanted, found = plain.get(bgr(fx.photo())), ours.get(bgr(fx.photo()))
    assert [set(face.keys()) for face in found] == [set(face.keys()) for face in wanted]
    assert "landmark_2d_106" in wanted[0]
    for face, other in zip(found, wanted, strict=True):
        for key in set(other) - {"embedding"}:
            np.testing.assert_allclose(face[key], other[key], atol=2e-3)
        assert same_face(face.embedding, other.embedding)
        assert np.linalg.norm(face.normed_embedding) == pytest.approx(1)
        assert face.sex is None and face.nothing_of_the_kind is None


@both_layouts
@pytest.mark.parametrize("metric, most", [("default", 1), ("max", 3)])
def test_detect_with_fewer_faces_than_there_are(ours, plain, metric, most):
    found = ours.det_model.detect(bgr(fx.photo()), input_size=(640, 640), max_num=most, metric=metric)
    wanted = plain.det_model.detect(bgr(fx.photo()), input_size=(640, 640), max_num=most, metric=metric)
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)
    assert len(found[0]) == most


@pytest.mark.parametrize("picture, size", [(fx.photo, 640), (close_up, 384)])
def test_pulid_style_use_of_our_object(ours, picture, size):
    """PuLID's way: ever smaller sizes, set on the detector; the largest face; its box, points and embedding."""
    for found_at in range(640, 256, -64):
        ours.det_model.input_size = (found_at, found_at)
        if found := ours.get(bgr(picture())):
            break
    ours.det_model.input_size = (640, 640)
    face = max(found, key=lambda f: (f["bbox"][2] - f["bbox"][0]) * (f["bbox"][3] - f["bbox"][1]))
    assert isinstance(face, Face) and found_at == size
    assert face.bbox.shape == (4,) and face.kps.shape == (5, 2) and face["embedding"].shape == (512,)
    assert same_face(face["embedding"], faces.Photos(ours, picture()).references()[0, 0])


def test_prepare_is_insightfaces(ours, plain):
    sure = plain.det_model.detect(bgr(fx.photo()), input_size=(512, 512))[0][:, 4] >= 0.84
    ours.prepare(ctx_id=0, det_thresh=0.84, det_size=(512, 512))
    assert ours.det_model.input_size == (512, 512) and 0 < sum(sure) < 6
    assert len(ours.get(bgr(fx.photo()))) == sum(sure)
    assert len(faces.Photos(ours, fx.photo()).found[0]) < 6
    ours.prepare(ctx_id=0, det_size=(640, 640))
    assert ours.det_model.input_size == (640, 640) and len(ours.get(bgr(fx.photo()))) == 6
    assert len(faces.Photos(ours, fx.photo()).found[0]) == 6, "a changed threshold is not answered from the cache"
    ours.det_model.prepare(input_size=320)  # as newer versions of insightface take it
    assert ours.det_model.input_size == (320, 320)
    ours.det_model.input_size = (640, 640)


def test_only_the_networks_that_are_needed_are_opened_once(root, monkeypatch):
    files = []
    real = providers.open_session
    monkeypatch.setattr(analysis_module, "open_session", lambda *args: files.append(args[0]) or real(*args))
    analysis = open_face_analysis([str(root)], "CPU")
    faces.Photos(analysis, fx.photo()).references()
    assert open_face_analysis([str(root)], "CPU") is analysis and len(files) == 2
    assert analysis.get(bgr(fx.photo()))[0].landmark_2d_106.shape == (106, 2)
    assert len(files) == 3 and files[2].endswith("2d106det.onnx")
    assert {task: model.taskname for task, model in analysis.models.items()} == {
        task: task for task in ("detection", "landmark_2d_106", "recognition")}
    assert analysis.models is analysis.models and analysis.models["detection"] is analysis.det_model
    del analysis.models["landmark_2d_106"]
    assert set(analysis.get(bgr(fx.photo()))[0]) == {"bbox", "kps", "det_score", "embedding"} and len(files) == 3


def test_a_plain_object_is_served_and_left_as_it_was(plain):
    before = {name: value for name, value in vars(plain.det_model).items() if not name.startswith("_")}
    assert [len(found) for found in faces.Photos(plain, torch.cat([close_up(), close_up() * 0])).found] == [1, 0]
    assert faces.Photos(plain, close_up()).references().shape == (1, 1, 512)
    assert {name: value for name, value in vars(plain.det_model).items() if not name.startswith("_")} == before


def test_an_object_of_another_kind_or_without_an_embedder(root):
    with pytest.raises(InstantIDError, match=r"\(dict\) is none of insightface's kind. Connect InstantID"):
        assert faces.Photos({}, fx.photo()).found
    from insightface.app import FaceAnalysis
    only_detection = FaceAnalysis(name="antelopev2", root=str(root), allowed_modules=["detection"],
                                  providers=["CPUExecutionProvider"])
    assert len(faces.Photos(only_detection, fx.portrait("a")).found[0]) == 1
    for given in (only_detection, SimpleNamespace(det_model=only_detection.det_model)):
        with pytest.raises(InstantIDError, match="has no embedder. Connect InstantID Face Analysis"):
            faces.Photos(given, fx.portrait("a")).references()


@pytest.mark.skipif(OLD, reason="this is the process with the old one")
def test_all_this_with_the_oldest_insightface():
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))],
                          env={**os.environ, "INSTANTID_INSIGHTFACE": str(DEV / "insightface-0.7.3")},
                          capture_output=True, text=True)
    assert done.returncode == 0 and "1 skipped" in done.stdout, done.stdout
