"""`python dev/gpu.py` on a CPU, as a user starts it: its verdict, and that it goes on where it was killed.

There it runs on a simulated device, with a stand-in for the library of dynamic VRAM that lets weights go at random.
"""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace
from unittest import mock

import comfy.model_management
import gpu
import instantid_swift
import psutil
import pytest
import torch
from conftest import CHECKOUT
from stand_ins.traffic import simulated_device

from benchmarks import models

pytestmark = pytest.mark.newest
COMFYUI = os.environ["INSTANTID_COMFYUI"]
BITS, MEMORY, TIMES = (", ".join(run) for run in gpu.ON_CPU)
KEPT = {"status": "done", "seconds": 1, "figures": {}, "log": "",
        "rows": [{"must": "be kept", "found": "kept", "holds": True}]}


def command(output, *arguments):
    return [sys.executable, str(CHECKOUT / "dev" / "gpu.py"), "--device", "cpu", "--comfyui", COMFYUI, "--output", str(output),
            *arguments]


def run(output, *arguments):
    """(exit code, what was said, content of the file)"""
    done = subprocess.run(command(output, *arguments), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, json.loads(output.read_text())


@pytest.fixture
def wheels(tmp_path_factory):
    """A folder with a wheel."""
    folder = tmp_path_factory.mktemp("wheels")
    with zipfile.ZipFile(folder / "only_in_a_wheel-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("only_in_a_wheel.py", "")
    return folder


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What stands in the file of a command that was killed in the first stage, called again; it knew the second already."""
    output, only = tmp_path_factory.mktemp("gpu") / "found.json", ("--only", "bits", "memory")
    code, said, begun = run(output, "--minutes", "0", *only)
    assert code == 2 and "0 holds" in said and [row["holds"] for row in begun["verdict"]] == [None, None]
    output.write_text(json.dumps({**begun, "runs": {MEMORY: KEPT}}))

    killed = psutil.Popen(command(output, *only), stdout=subprocess.PIPE)
    while not (stages := killed.children()):
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    psutil.wait_procs(stages, timeout=60)
    assert not any(stage.is_running() for stage in stages)
    assert json.loads(output.read_text())["runs"] == {MEMORY: KEPT}

    code, said, content = run(output, *only)
    assert code == 0 and "All was run" in said, said + str(content)
    return content


def test_killed_it_goes_on_with_what_is_missing(content):
    assert content["runs"][MEMORY] == KEPT and content["runs"][BITS]["status"] == "done"
    assert {row["holds"] for row in content["verdict"]} == {True} and COMFYUI not in json.dumps(content)


def test_dynamic_vram_is_started_before_comfyui_looks_for_its_library(content):
    found, = (row["found"] for row in content["runs"][BITS]["rows"] if row["must"] == "weights lie in dynamic VRAM")
    assert float(found.partition(" ")[0]) > 100


def test_packages_that_are_not_installed_come_from_wheels(wheels, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    gpu.add_packages(wheels, tmp_path)
    assert importlib.import_module("only_in_a_wheel").__file__ == str(tmp_path / "only_in_a_wheel.py")


def test_under_dynamic_vram_models_have_all_weights():
    import comfy.memory_management
    with mock.patch.object(comfy.memory_management, "aimdo_enabled", True):
        unet = models.unet("miniature", torch.device("cpu"), torch.float32).model.diffusion_model
        net = models.identity_net("miniature", torch.device("cpu"), torch.float32).control_model
    layers = [layer for model in (unet, net) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(layers) > 1000 and all(layer.weight is not None for layer in layers)


def test_memory_is_counted_on_the_device_that_comfyui_names(tmp_path):
    """And unloading reaches the stage's models."""
    arguments = SimpleNamespace(device="cpu", work=tmp_path, run=MEMORY, baseline=None)
    with simulated_device(modules_move=True) as (device, watch):
        stage = gpu.Stage(arguments, "float32", instantid_swift.NODE_CLASS_MAPPINGS, None, watch)
        gpu.memory(stage)
        model = stage.world.model
        assert model.load_device == device and model.loaded_size() > 0
        comfy.model_management.unload_all_models()
        assert model.loaded_size() == 0
    assert [row["holds"] for row in stage.report["rows"]] == [True, True]


def test_a_stage_that_crashes_does_not_hold(tmp_path):
    comfyui = tmp_path / "ComfyUI-0"
    (comfyui / "comfy").mkdir(parents=True)
    for name in ("main.py", "comfy/options.py"):
        (comfyui / name).write_text("")
    (comfyui / "comfy" / "__init__.py").write_text("raise OSError('broken')")
    code, _, content = run(tmp_path / "found.json", "--only", "memory", "--comfyui", str(comfyui))
    assert code == 1 and "OSError: broken" in content["runs"][MEMORY]["log"]
    assert [row["holds"] for row in content["verdict"]] == [False]


def test_a_file_of_other_options_is_left_alone(content, tmp_path):
    output = tmp_path / "found.json"
    output.write_text(json.dumps(content))
    done = subprocess.run(command(output, "--baseline", "another pack"), capture_output=True, text=True)
    assert done.returncode == 1 and "choose another --output" in done.stderr and json.loads(output.read_text()) == content


@pytest.mark.long
def test_all_stages_with_a_baseline_that_needs_a_wheel(tmp_path, wheels):
    baseline = tmp_path / "baseline"
    baseline.mkdir()
    (baseline / "__init__.py").write_text("import only_in_a_wheel\nfrom benchmarks.original_way import NODE_CLASS_MAPPINGS\n")
    code, said, content = run(tmp_path / "found.json", "--minutes", "5", "--baseline", str(baseline), "--wheels", str(wheels))
    assert code == 0 and list(content["runs"]) == [BITS, MEMORY, TIMES], said
    assert said.count("ours has the bits of the baseline") == 2
    assert "compiled by eager" in content["runs"][TIMES]["figures"]
