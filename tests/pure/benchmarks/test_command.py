"""The benchmarks' command line."""

import json
import subprocess
import sys

from benchmarks import CHECKOUT


def command(*words):
    return subprocess.run([sys.executable, "-m", "benchmarks", *map(str, words)], cwd=CHECKOUT, capture_output=True, text=True)


def test_a_stage_that_fails_does_not_stop_the_others(tmp_path):
    """Both do: there is no ComfyUI in the folder."""
    done = command("imports", "load", "--comfyui", tmp_path, "--output", tmp_path / "figures.json")
    assert done.returncode == 1 and "\nload: " in done.stdout and "Failed: imports, load." in done.stderr
    assert "There is no ComfyUI in" in done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["stages"] == {}


def test_a_stage_that_does_not_exist_is_refused(tmp_path):
    done = command("speed", "--comfyui", tmp_path)
    assert done.returncode == 2 and "speed" in done.stderr
