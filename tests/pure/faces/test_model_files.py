"""The face networks as files: found in the layouts users have, told apart by content, missing ones named."""

import shutil
import sys

import pytest
from instantid_swift.faces import analysis, model_files
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


def test_antelopev2_is_known_by_name(tmp_path):
    """So that 400 MB need not be opened to be told apart."""
    names = {"scrfd_10g_bnkps": "detection", "glintr100": "recognition", "1k3d68": "landmark_3d_68",
             "2d106det": "landmark_2d_106", "genderage": "genderage"}
    for name in (*names, "inswapper_128"):
        (tmp_path / f"{name}.onnx").write_bytes(b"is not opened")
    assert model_files.find_networks([str(tmp_path)]) == {
        task: str(tmp_path / f"{name}.onnx") for name, task in names.items()}


def test_networks_of_other_names_are_told_apart_by_content(tmp_path, face_files):
    for name, other in {"w600k_mbf": "a", "2d106det": "d", "det_500m": "z"}.items():
        shutil.copy(face_files / f"{name}.onnx", tmp_path / f"{other}.onnx")
    (tmp_path / "b.onnx").write_bytes(b"no network")
    (tmp_path / "c.onnx").write_bytes(b"")
    assert model_files.find_networks([str(tmp_path)]) == {
        "detection": str(tmp_path / "z.onnx"), "recognition": str(tmp_path / "a.onnx")}


@pytest.mark.parametrize("kept, words", [
    (None, "The face networks of antelopev2 were not found. The five .onnx files of antelopev2 are at https://huggingface.co"),
    ("scrfd_500m_bnkps.onnx", "holds scrfd_500m_bnkps.onnx but lacks the embedder (glintr100.onnx)"),
    ("w600k_mbf.onnx", "holds w600k_mbf.onnx but lacks the detector (scrfd_10g_bnkps.onnx)")])
def test_networks_that_are_missing(tmp_path, package, kept, words, caplog):
    caplog.set_level("INFO")
    if kept:
        (tmp_path / "models" / "antelopev2").mkdir(parents=True)
        shutil.copy(package / kept, tmp_path / "models" / "antelopev2")
    with pytest.raises(model_files.InstantIDError) as error:
        analysis.open_face_analysis([str(tmp_path)], "CPU")
    text = one_sentence_of_advice(error)
    assert words.format(tmp_path) in text
    assert text.endswith(f"Put them into {tmp_path}/models/antelopev2.")
    assert f"{tmp_path}/models/antelopev2/antelopev2" not in text and f"{tmp_path}/models/antelopev2/antelopev2" in caplog.text


@pytest.mark.parametrize("content, words", [
    (b"\n<!DOCTYPE html><html>", "It is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "It is a Git LFS pointer")])
def test_what_was_saved_in_place_of_a_network(tmp_path, package, content, words):
    shutil.copytree(package, tmp_path / "antelopev2")
    (tmp_path / "antelopev2" / "glintr100.onnx").write_bytes(content)
    with pytest.raises(model_files.InstantIDError, match=f"glintr100.onnx cannot be opened. {words}"):
        analysis.open_face_analysis([str(tmp_path)], "CPU")
    (tmp_path / "antelopev2" / "glintr100.onnx").rename(tmp_path / "antelopev2" / "other.onnx")
    (tmp_path / "antelopev2" / "w600k_mbf.onnx").unlink()
    with pytest.raises(model_files.InstantIDError, match=f"lacks the embedder .* other.onnx cannot be opened. {words}"):
        analysis.open_face_analysis([str(tmp_path)], "CPU")


@pytest.mark.parametrize("name, length", [("glintr100.onnx", 1_000_000), ("genderage.onnx", 0)])
def test_a_known_network_that_was_not_downloaded_completely(tmp_path, package, name, length):
    """The second is opened when another pack asks for it."""
    shutil.copytree(package, tmp_path / "antelopev2")
    (tmp_path / "antelopev2" / name).write_bytes((package / "w600k_mbf.onnx").read_bytes()[:length])
    with pytest.raises(model_files.InstantIDError, match=f"The face network {name} cannot be opened") as error:
        assert analysis.open_face_analysis([str(tmp_path)], "CPU").models
    assert "was not downloaded completely" in one_sentence_of_advice(error)


@pytest.mark.parametrize("package_name", ["insightface", "onnxruntime"])
def test_a_python_package_is_missing(face_root, monkeypatch, package_name):
    for name in [name for name in sys.modules if name.split(".")[0] == package_name]:
        monkeypatch.delitem(sys.modules, name)

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package_name:
                raise ModuleNotFoundError(f"No module named '{name}'")
    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    with pytest.raises(model_files.InstantIDError) as error:
        analysis.open_face_analysis([str(face_root)], "CPU")
    assert f"python -m pip install {package_name}" in one_sentence_of_advice(error)
