"""Every stage of the benchmarks runs as its command, on little."""

import json
import os
import subprocess
import sys

import pytest
from conftest import CHECKOUT

from benchmarks.__main__ import STAGES

COMFYUI = os.environ["INSTANTID_COMFYUI"]


@pytest.mark.long
@pytest.mark.newest
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs(stage, tmp_path):
    output = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, "-m", "benchmarks", stage, "--quick", "--comfyui", COMFYUI, "--output", output],
                          cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["stages"][stage]["figures"]
