"""How the pack arrives in ComfyUI: quickly, under its ids, with a word where another pack has the same ids."""

import asyncio
import copy
import shutil
import subprocess
import sys
from pathlib import Path

import folder_paths
import nodes as comfyui_nodes
import pytest
import torch
from conftest import CHECKOUT, COMFYUI
from instantid_swift.host.twins import folder_of, warning_of_twins
from instantid_swift.InstantID import register_folders
from oracle import cases
from oracle import fixtures as fx
from runtime import import_pack

HEAVY = ("insightface", "onnxruntime", "cv2", "skimage", "onnx", "matplotlib", "triton")

IMPORTS = f"""
import importlib, sys, types
sys.path.insert(0, {str(CHECKOUT / "dev")!r})
import runtime
computing = sys.modules["computing"] = types.ModuleType("computing")
computing.__path__ = [{str(CHECKOUT)!r}]
for name in ("utils", "resampler", "caches", "faces", "identity", "CrossAttentionPatch", "controlnet", "performance",
             "likeness.measure", "likeness.report", "likeness.sweep"):
    importlib.import_module("computing." + name)
assert not set({HEAVY!r}) & set(sys.modules) and "comfy" not in sys.modules
runtime.use_comfyui({COMFYUI!r})
import nodes, server, execution, comfy.samplers, comfy.sd
before = set(sys.modules)
runtime.import_pack("pack")
print(*{{name.split(".")[0] for name in set(sys.modules) - before}})
"""


@pytest.mark.newest
def test_the_pack_imports_nothing_heavy():
    """The computing modules need no ComfyUI. In one that has its own modules, what is new is ours, and two small libraries."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    new = set(done.stdout.splitlines()[-1].split())
    assert not new & set(HEAVY)
    assert "pack" in new <= {"pack", "cachetools", "xxhash", "_xxhash"}


@pytest.mark.newest
def test_the_folders_of_the_models_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", copy.deepcopy(folder_paths.folder_names_and_paths))
    register_folders()
    assert (tmp_path / "instantid").is_dir() and (tmp_path / "insightface" / "models" / "antelopev2").is_dir()


NOT_PUBLISHED = shutil.ignore_patterns(".*", "__pycache__", "tests", "dev", "benchmarks", "bulk", "docs")


@pytest.mark.newest
def test_comfyui_loads_the_pack_from_a_folder_of_any_name(nodes, world, face_root, tmp_path, monkeypatch):
    """And from a path with letters that are not ASCII. Its nodes work there, with face networks on such a path, too."""
    for registry in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "EXTENSION_WEB_DIRS", "LOADED_MODULE_DIRS"):
        monkeypatch.setattr(comfyui_nodes, registry, {})
    name = "Gesichter-ÄÖ-脸 (1)"
    folder, networks = tmp_path / "Übung-测试" / "custom_nodes" / name, tmp_path / "Übung-测试" / "insightface"
    shutil.copytree(CHECKOUT, folder, ignore=NOT_PUBLISHED)
    shutil.copytree(face_root, networks)
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {
        **folder_paths.folder_names_and_paths, "insightface": ([str(networks)], set())})

    assert asyncio.run(comfyui_nodes.load_custom_node(str(folder)))
    loaded = comfyui_nodes.NODE_CLASS_MAPPINGS
    assert loaded.keys() == nodes.keys() == comfyui_nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    assert {folder_of(node) for node in loaded.values()} == {f"custom_nodes/{name}"}
    assert comfyui_nodes.EXTENSION_WEB_DIRS[name] == str(folder / "web")
    assert not any(loaded[node] is nodes[node] for node in nodes)

    analysis, = cases.call(loaded, "InstantIDFaceAnalysis", provider="CPU")
    drawn, = cases.call(loaded, "FaceKeypointsPreprocessor", faceanalysis=analysis, image=fx.portrait("a"))
    assert drawn.any() and torch.equal(drawn, cases.call(
        nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("a"))[0])


def test_folder_kinds_are_known_with_their_files():
    assert str(Path(folder_paths.models_dir) / "instantid") in folder_paths.get_folder_paths("instantid")
    assert str(Path(folder_paths.models_dir) / "insightface") in folder_paths.get_folder_paths("insightface")
    assert {".bin", ".safetensors"} <= folder_paths.folder_names_and_paths["instantid"][1]


def test_paths_added_by_the_user_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    folder_paths.folder_names_and_paths["instantid"] = ([str(tmp_path)], set())
    (tmp_path / "ip-adapter.bin").touch()
    (tmp_path / "readme.md").touch()
    pack = import_pack("another_import")
    choices = pack.NODE_CLASS_MAPPINGS["InstantIDModelLoader"].INPUT_TYPES()["required"]["instantid_file"][0]
    assert "ip-adapter.bin" in choices and "readme.md" not in choices


def node(folder):
    """A node class as ComfyUI has registered it for a pack in a folder."""
    return type("Node", (), {"RELATIVE_PYTHON_MODULE": f"custom_nodes.{folder}"})


OURS = {"ApplyInstantID": node("InstantID-Swift"), "InstantIDOptions": node("InstantID-Swift")}
THEIRS = {"ApplyInstantID": node("ComfyUI_InstantID")}


@pytest.mark.parametrize("earlier, now, used", [
    (THEIRS, OURS, "custom_nodes/InstantID-Swift"), ({}, {**OURS, **THEIRS}, "custom_nodes/ComfyUI_InstantID")])
def test_another_pack_with_our_ids_is_named(earlier, now, used):
    """Whichever of the two is imported first."""
    warning = warning_of_twins(OURS, earlier, now)
    assert "custom_nodes/ComfyUI_InstantID and custom_nodes/InstantID-Swift" in warning and "Keep one" in warning
    assert warning.endswith(f"ComfyUI now uses {used} for ApplyInstantID.")


def test_no_warning_without_one(caplog):
    assert warning_of_twins(OURS, {}, {**OURS, "KSampler": node("nodes")}) == ""
    assert warning_of_twins(OURS, dict(OURS), OURS) == "", "imported once more"
    import_pack("third_import")
    assert not caplog.records


