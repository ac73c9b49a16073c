"""FACEANALYSIS as other packs use it, ours and insightface's; agreement with insightface; threads; networks on demand.

Runs with the installed insightface and, in a process of its own, with the oldest one that is supported.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
from instantid_swift.faces.photos import detect_faces
from instantid_swift.utils import InstantIDError
from oracle import fixtures as fx
from photos import bgr, close_up, same_face, six_portraits, tom_hanks

OLD = insightface.__version__ == "0.7.3"
DETECTORS = ["scrfd_500m_bnkps", "det_500m"]  # three-dimensional outputs, any batch; antelopev2's layout


def make_root(folder, files, *names):
    package = folder / "models" / "antelopev2"
    package.mkdir(parents=True)
    for name in names:
        shutil.copy(files / f"{name}.onnx", package)
    return folder


@pytest.fixture(scope="module", params=DETECTORS)
def root(request, tmp_path_factory, face_files):
    """A folder with a detector, the embedder, and a network that InstantID has no use for."""
    return make_root(tmp_path_factory.mktemp("insightface"), face_files, request.param, "w600k_mbf", "2d106det")


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


@pytest.fixture
def theirs(root, plain, request):
    """insightface's own, where it can be asked for faces."""
    if OLD and "scrfd_500m_bnkps" in request.node.callspec.id:
        return fx.face_analysis(make_root(request.getfixturevalue("tmp_path"), DEV / "face_models", "det_500m", "w600k_mbf",
                                          "2d106det"))  # 0.7.3 crashes on three-dimensional outputs; the weights are the same
    return plain


# ---- agreement with insightface


def test_faces_agree_with_insightface(analysis, theirs):
    wanted = theirs.get(bgr(fx.photo()))
    found, = faces.Photos(analysis, fx.photo()).found
    assert len(found) == len(wanted) == 6
    for face, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(face.box, other.bbox, atol=1e-3)
        np.testing.assert_allclose(face.points, other.kps, atol=1e-3)
        assert face.score == pytest.approx(float(other.det_score), abs=1e-5)
    largest = max(wanted, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
    assert same_face(faces.Photos(analysis, fx.photo()).references()[0, 0], largest.embedding)


def test_a_batch_agrees_with_single_photos(analysis):
    together = faces.Photos(analysis, six_portraits()).references()
    alone = torch.cat([faces.Photos(analysis, image[None]).references() for image in six_portraits()])
    assert (together - alone).abs().max() <= 1e-4 * alone.abs().max()


def test_get_gives_what_insightface_gives(ours, theirs):
    wanted, found = theirs.get(bgr(fx.photo())), ours.get(bgr(fx.photo()))
    assert [set(face.keys()) for face in found] == [set(face.keys()) for face in wanted]
    assert "landmark_2d_106" in wanted[0]
    for face, other in zip(found, wanted, strict=True):
        for key in set(other) - {"embedding"}:
            np.testing.assert_allclose(face[key], other[key], atol=2e-3)
        assert same_face(face.embedding, other.embedding)
        assert np.linalg.norm(face.normed_embedding) == pytest.approx(1)
        assert face.sex is None and face.nothing_of_the_kind is None


@pytest.mark.parametrize("metric", ["default", "max"])
@pytest.mark.parametrize("most", [1, 3, 10])
def test_detect_with_fewer_faces_than_there_are(ours, theirs, metric, most):
    found = ours.det_model.detect(bgr(fx.photo()), input_size=(640, 640), max_num=most, metric=metric)
    wanted = theirs.det_model.detect(bgr(fx.photo()), input_size=(640, 640), max_num=most, metric=metric)
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)
    assert len(found[0]) == min(most, 6)


# ---- our object in other packs


def pulid(analysis, picture):
    """PuLID's way: ever smaller sizes, set on the detector; the largest face; its box, points and embedding."""
    for size in range(640, 256, -64):
        analysis.det_model.input_size = (size, size)
        found = analysis.get(picture)
        if found:
            face = sorted(found, key=lambda f: (f["bbox"][2] - f["bbox"][0]) * (f["bbox"][3] - f["bbox"][1]))[-1]
            analysis.det_model.input_size = (640, 640)
            return size, face
    raise AssertionError("no face")


@pytest.mark.parametrize("picture, size", [(fx.photo, 640), (close_up, 384), (tom_hanks, 448)])
def test_pulid_style_use_of_our_object(ours, picture, size):
    found_at, face = pulid(ours, bgr(picture()))
    assert isinstance(face, Face) and found_at == size
    assert face.bbox.shape == (4,) and face.kps.shape == (5, 2) and face["embedding"].shape == (512,)
    assert same_face(face["embedding"], faces.Photos(ours, picture()).references()[0, 0])


def test_prepare_is_insightfaces(ours, theirs):
    sure = theirs.det_model.detect(bgr(fx.photo()), input_size=(512, 512))[0][:, 4] >= 0.84
    ours.prepare(ctx_id=0, det_thresh=0.84, det_size=(512, 512))
    assert ours.det_model.input_size == (512, 512) and 0 < sum(sure) < 6
    assert len(ours.get(bgr(fx.photo()))) == sum(sure)
    ours.prepare(ctx_id=0, det_size=(640, 640))
    assert ours.det_model.input_size == (640, 640) and len(ours.get(bgr(fx.photo()))) == 6


def test_a_detectors_size_may_be_a_number(ours):
    """Set or handed over, as newer versions of insightface take it; of several sizes the last one counts."""
    wanted = ours.det_model.detect(bgr(fx.photo()), input_size=(320, 320))
    try:
        for size in (320, np.int64(320), [320, 320], np.array([320, 320]), [(640, 640), (320, 320)]):
            ours.det_model.input_size = size
            for found in (ours.det_model.detect(bgr(fx.photo())), ours.det_model.detect(bgr(fx.photo()), input_size=size)):
                assert all(map(np.array_equal, found, wanted)) and len(found[0])
            ours.det_model.prepare(input_size=size)
            assert ours.det_model.input_size == (320, 320)
    finally:
        ours.det_model.input_size = (640, 640)


def test_a_changed_threshold_is_not_answered_from_the_cache(ours):
    counts = []
    for threshold in (0.5, 0.84, 0.5):
        ours.prepare(det_thresh=threshold)
        counts.append(len(faces.Photos(ours, fx.photo()).found[0]))
    assert counts[0] == counts[2] == 6 and counts[1] < 6


def test_only_the_networks_that_are_needed_are_opened(root, monkeypatch):
    files = []
    real = providers.open_session
    monkeypatch.setattr(analysis_module, "open_session", lambda *args: files.append(args[0]) or real(*args))
    analysis = open_face_analysis([str(root)], "CPU")
    faces.Photos(analysis, fx.photo()).references()
    assert len(files) == 2
    assert analysis.get(bgr(fx.photo()))[0].landmark_2d_106.shape == (106, 2)
    assert len(files) == 3 and files[2].endswith("2d106det.onnx")
    assert analysis.models is analysis.models and len(files) == 3


def test_models_is_a_dictionary(root):
    analysis = open_face_analysis([str(root)], "CPU")
    assert sorted(analysis.models) == ["detection", "landmark_2d_106", "recognition"]
    assert {task: model.taskname for task, model in analysis.models.items()} == {task: task for task in analysis.models}
    assert analysis.models["detection"] is analysis.det_model and analysis.models.get("genderage") is None
    del analysis.models["landmark_2d_106"]
    assert set(analysis.get(bgr(fx.photo()))[0]) == {"bbox", "kps", "det_score", "embedding"}


def test_the_same_files_are_opened_once(root):
    analysis = open_face_analysis([str(root)], "CPU")
    assert open_face_analysis([str(root)], "CPU") is analysis


# ---- another pack's object in our nodes


def test_a_plain_object_is_served_and_left_as_it_was(plain):
    before = {name: value for name, value in vars(plain.det_model).items() if not name.startswith("_")}
    assert [len(found) for found in faces.Photos(plain, torch.cat([close_up(), close_up() * 0])).found] == [1, 0]
    assert faces.Photos(plain, close_up()).references().shape == (1, 1, 512)
    assert {name: value for name, value in vars(plain.det_model).items() if not name.startswith("_")} == before


def test_an_object_of_another_kind():
    with pytest.raises(InstantIDError, match=r"\(dict\) is none of insightface's kind. Connect InstantID"):
        assert faces.Photos({}, fx.photo()).found


def test_an_object_without_an_embedder(root):
    from insightface.app import FaceAnalysis
    only_detection = FaceAnalysis(name="antelopev2", root=str(root), allowed_modules=["detection"],
                                  providers=["CPUExecutionProvider"])
    assert len(faces.Photos(only_detection, fx.portrait("a")).found[0]) == 1
    for given in (only_detection, SimpleNamespace(det_model=only_detection.det_model)):
        with pytest.raises(InstantIDError, match="has no embedder. Connect InstantID Face Analysis"):
            faces.Photos(given, fx.portrait("a")).references()


# ---- threads


def test_eight_threads_give_what_one_gives(analysis):
    """60 calls on one object, with pictures that are found at different sizes."""
    pictures = [fx.portrait("a"), tom_hanks(), close_up(), tom_hanks().flip(2), torch.zeros(1, 64, 64, 3)]

    def call(number):
        photos = faces.Photos(analysis, pictures[number % len(pictures)])
        smaller = [look for look in photos.passes if look.size[0] < 512]
        found, = detect_faces(photos.pictures, photos.detector, smaller, photos.thresholds)  # past the cache
        return [(face.size, face.box.tobytes(), photos.embed(0, face).numpy().tobytes()) for face in found]
    alone = [call(number) for number in range(len(pictures))]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(call, range(60)))
    assert together == alone * 12 and [[face[0] for face in found] for found in alone] == [[448], [448], [384], [448], []]


@pytest.mark.skipif(OLD, reason="this is the process with the old one")
def test_all_this_with_the_oldest_insightface():
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))],
                          env={**os.environ, "INSTANTID_INSIGHTFACE": str(DEV / "insightface-0.7.3")},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout and "failed" not in done.stdout
