"""What pip would install for the pack, into an empty environment."""

import json
import re
import subprocess
import sys

import pytest
from conftest import CHECKOUT

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
