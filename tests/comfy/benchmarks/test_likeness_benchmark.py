"""The benchmark of likeness runs through on the miniature, every way of it, and says so where something is missing."""

import json
import subprocess
import sys

import pytest
from conftest import CHECKOUT, COMFYUI

pytestmark = pytest.mark.newest


def command(*words):
    return subprocess.run([sys.executable, "-m", "benchmarks", "likeness", "--comfyui", COMFYUI, *map(str, words)],
                          cwd=CHECKOUT, capture_output=True, text=True)


def test_every_way_is_measured(tmp_path):
    done = command("--quick", "--steps", 1, "--seeds", 1, "--device", "cpu", "--output", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["stages"]["likeness"]["figures"]
    assert {"as original", "blocks: all 70", "blocks: output only", "step reuse 2", "step reuse 3"} <= set(figures["ways"])
    assert not figures["own models"] and "these numbers mean nothing" in done.stdout
    for row in figures["ways"].values():
        assert row["ms per step"] > 0 and row["without a face"] in (0, 1)
        assert (row["mean"] is None) == bool(row["without a face"])


def test_own_models_need_all_files(tmp_path):
    done = command("--photos", tmp_path)
    assert done.returncode == 1 and "--checkpoint, --control-net, --adapter, --networks must be given" in done.stderr
