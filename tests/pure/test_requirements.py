"""What pip would install for the pack, into an empty environment."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pins
import pytest
from conftest import CHECKOUT, DEV

REQUIREMENTS = CHECKOUT / "requirements.txt"
OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"}


def name_of(requirement):
    """'insightface>=0.7.3' -> 'insightface'"""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_no_requirement_brings_a_second_opencv():
    """Two packages of OpenCV write to one folder and break each other. insightface asks for one of its own."""
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "--quiet",
                           "--ignore-installed", "--no-deps", "--report", "-", "-r", str(REQUIREMENTS)],
                          capture_output=True, text=True)
    if done.returncode and re.search("name resolution|connection|timed out|could not find a version", done.stderr, re.I):
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, done.stderr
    packages = {name_of(item["metadata"]["name"]): item["metadata"] for item in json.loads(done.stdout)["install"]}
    assert packages.keys() == {name_of(line) for line in REQUIREMENTS.read_text().splitlines() if line and line[0] != "#"}
    wanted = {*packages, *(name_of(requirement) for metadata in packages.values()
                           for requirement in metadata.get("requires_dist", []) if "extra ==" not in requirement)}
    assert wanted & OPENCV == {"opencv-python"}
    assert "onnxruntime" in wanted  # of insightface; README.md says what to do about onnxruntime-gpu


LOAD_PACK = f"""
import asyncio, importlib, sys
sys.path.insert(0, {str(CHECKOUT / "dev")!r})
import runtime
runtime.use_comfyui({str(DEV / f"ComfyUI-{pins.NEWEST_COMFYUI}")!r})
import nodes, torch
assert asyncio.run(nodes.load_custom_node({str(CHECKOUT)!r}))
import folder_paths
folder_paths.folder_names_and_paths["insightface"] = ([{str(DEV / "models" / "insightface")!r}], set())

def call(name, **inputs):
    node = nodes.NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)[0]

analysis = call("InstantIDFaceAnalysis", provider="CPU")
from oracle import fixtures
assert call("FaceKeypointsPreprocessor", faceanalysis=analysis, image=fixtures.portrait("a")).any()
for package in sys.argv[1:]:
    print(importlib.import_module(package).__file__)
"""


@pytest.mark.long
def test_an_installed_environment_has_one_opencv_and_runs_the_pack_in_comfyui(tmp_path):
    """What the requirements ask for is downloaded: some hundred megabytes. What ComfyUI itself needs, such as torch, comes from
    the environment of the tests, whose folder stands behind the new one."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    python = next(path for path in (tmp_path / "bin" / "python", tmp_path / "Scripts" / "python.exe") if path.exists())
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-r", str(REQUIREMENTS)], check=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True)
    assert {name_of(item["name"]) for item in json.loads(listed.stdout)} & OPENCV == {"opencv-python"}
    subprocess.run([*pip, "check"], check=True)

    own = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                              capture_output=True, text=True).stdout.strip())
    (own / "behind.pth").write_text(sysconfig.get_path("purelib"))
    ours = ("cv2", "insightface", "onnxruntime", "cachetools", "numpy", "safetensors", "xxhash")
    done = subprocess.run([python, "-c", LOAD_PACK, *ours, "torch"], check=True, capture_output=True, text=True,
                          cwd=CHECKOUT / "tests")
    *files, torch = map(Path, done.stdout.splitlines()[-len(ours) - 1:])
    assert all(file.is_relative_to(own) for file in files) and not torch.is_relative_to(own)
