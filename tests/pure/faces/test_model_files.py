"""The face networks as files: found in the layouts users have, told apart by content, missing ones named."""

import shutil
import sys

import pytest
from instantid_swift.faces import analysis, model_files
from instantid_swift.files import networks
from messages import one_sentence_of_advice


@pytest.fixture
def package(face_root):
    return face_root / "models" / "antelopev2"


@pytest.mark.parametrize("folder", [
    "models/antelopev2", "models/antelopev2/antelopev2", "antelopev2", "antelopev2/antelopev2", "models", "."])
def test_layouts_that_users_have(tmp_path, package, folder):
    """Unpacking antelopev2.zip into a folder of that name nests it once more: the original then found nothing."""
    shutil.copytree(package, tmp_path / folder, dirs_exist_ok=True)
    found = model_files.find_networks([str(tmp_path / "elsewhere"), str(tmp_path)])
    assert {task: (tmp_path / folder).samefile(path.rpartition("/")[0]) for task, path in found.items()} == {
        "detection": True, "recognition": True}


def test_networks_are_told_apart_by_content(tmp_path, face_files):
    folder = tmp_path / "antelopev2"
    folder.mkdir()
    names = {"w600k_mbf": "a", "2d106det": "d", "det_500m": "z"}
    for name, ours in names.items():
        shutil.copy(face_files / f"{name}.onnx", folder / f"{ours}.onnx")
    (folder / "b.onnx").write_bytes(b"no network")
    (folder / "c.onnx").write_bytes(b"")
    assert model_files.find_networks([str(tmp_path)]) == {
        "detection": str(folder / "z.onnx"), "recognition": str(folder / "a.onnx"),
        "landmark_2d_106": str(folder / "d.onnx")}


def test_networks_that_are_missing(tmp_path):
    with pytest.raises(model_files.FaceModelError) as error:
        analysis.open_face_analysis([str(tmp_path)], "CPU")
    text = one_sentence_of_advice(error)
    assert f"Unpack InsightFace's antelopev2.zip so that its .onnx files lie in {tmp_path}/models/antelopev2" in text
    assert "Searched:" in text and f"{tmp_path}/models/antelopev2/antelopev2" in text and "Nothing is downloaded" in text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kept, lacking", [("scrfd_500m_bnkps.onnx", "lacks the embedder (glintr100.onnx)"),
                                           ("w600k_mbf.onnx", "lacks the detector (scrfd_10g_bnkps.onnx)")])
def test_one_of_the_two_networks_is_missing(tmp_path, package, kept, lacking):
    (tmp_path / "models" / "antelopev2").mkdir(parents=True)
    shutil.copy(package / kept, tmp_path / "models" / "antelopev2")
    with pytest.raises(model_files.FaceModelError) as error:
        analysis.open_face_analysis([str(tmp_path)], "CPU")
    text = one_sentence_of_advice(error)
    assert f"holds {kept} but {lacking}" in text and "Searched:" in text


def test_a_download_that_was_cut_off_is_named(tmp_path, package):
    shutil.copytree(package, tmp_path / "models" / "antelopev2")
    path = tmp_path / "models" / "antelopev2" / "w600k_mbf.onnx"
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(model_files.FaceModelError) as error:
        model_files.find_networks([str(tmp_path)])
    assert "(w600k_mbf.onnx: damaged or not downloaded completely)" in one_sentence_of_advice(error)


@pytest.mark.parametrize("package_name", ["insightface", "onnxruntime"])
def test_a_python_package_is_missing(face_root, monkeypatch, package_name):
    for name in [name for name in sys.modules if name.split(".")[0] == package_name]:
        monkeypatch.delitem(sys.modules, name)

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package_name:
                raise ModuleNotFoundError(f"No module named '{name}'")
    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    with pytest.raises(model_files.FaceModelError) as error:
        analysis.open_face_analysis([str(face_root)], "CPU")
    assert f"python -m pip install {package_name}" in one_sentence_of_advice(error)


def test_the_weights_are_not_read_to_know_what_a_file_is(tmp_path, package):
    """antelopev2 has 400 MB of them. Here they are overwritten, and nobody notices."""
    whole = (package / "w600k_mbf.onnx").read_bytes()
    import onnx
    graph = onnx.load(package / "w600k_mbf.onnx").graph
    largest = max((tensor.raw_data for tensor in graph.initializer), key=len)
    start = whole.index(largest)
    path = tmp_path / "network.onnx"
    path.write_bytes(whole[:start] + bytes(len(largest)) + whole[start + len(largest):])
    assert model_files.network_task(path) == "recognition"
    assert networks.read_network(path) == networks.read_network(package / "w600k_mbf.onnx")
