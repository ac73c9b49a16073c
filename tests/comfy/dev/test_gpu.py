"""`python dev/gpu.py` on a CPU: the file that it writes, its verdict, and that it goes on where it was ended."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import CHECKOUT

pytestmark = pytest.mark.newest
COMFYUI = os.environ["INSTANTID_COMFYUI"]
PATIENCE = 300  # seconds


def command(output, *arguments):
    return [sys.executable, str(CHECKOUT / "dev" / "gpu.py"), "--device", "cpu", "--comfyui", COMFYUI, "--output", str(output),
            *arguments]


def run(output, *arguments):
    """(exit code, what was said, content of the file)."""
    done = subprocess.run(command(output, *arguments), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, json.loads(output.read_text())


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """What a call without any time for stages gives: (exit code, what was said, content of the file)."""
    return run(tmp_path_factory.mktemp("gpu") / "found.json", "--minutes", "0")


def test_without_time_nothing_is_lost_and_nothing_is_claimed(begun):
    code, said, content = begun
    assert code == 2 and not content["complete"] and "Call the command again" in said
    assert {row["holds"] for row in content["verdict"]} == {None} and len(content["verdict"]) == 7


def test_it_goes_on_with_what_is_missing(begun, tmp_path):
    """What was done is not run again, and stands in the verdict."""
    output = tmp_path / "found.json"
    done = {"status": "done", "seconds": 1, "figures": {}, "log": "",
            "rows": [{"must": "be kept", "found": "kept", "holds": True}]}
    output.write_text(json.dumps({**begun[2], "stages": {"adapter": done}}))
    code, said, content = run(output, "--only", "faces", "adapter")
    assert code == 0 and "adapter: be kept: kept" in said, said
    assert content["stages"]["adapter"] == done and content["stages"]["faces"]["status"] == "done"
    assert content["complete"] and {row["stage"] for row in content["verdict"]} == {"adapter", "faces"}
    assert COMFYUI not in json.dumps(content)


def test_a_stage_that_crashes_does_not_hold(tmp_path):
    comfyui = tmp_path / "ComfyUI-0"
    (comfyui / "comfy").mkdir(parents=True)
    (comfyui / "comfy" / "options.py").write_text("")
    (comfyui / "comfy" / "__init__.py").write_text("raise OSError('broken')")
    code, _, content = run(tmp_path / "found.json", "--only", "faces", "--comfyui", str(comfyui))
    assert code == 1 and "OSError: broken" in content["stages"]["faces"]["log"]
    assert content["verdict"][0]["holds"] is False and content["verdict"][0]["found"] == "ended with exit code 1"


def test_another_machines_file_is_left_alone(begun, tmp_path):
    output = tmp_path / "found.json"
    output.write_text(json.dumps({**begun[2], "machine": {**begun[2]["machine"], "gpu": "another"}}))
    before = output.read_text()
    done = subprocess.run(command(output), capture_output=True, text=True)
    assert done.returncode == 1 and "choose another --output" in done.stderr and output.read_text() == before


@pytest.mark.long
def test_ended_half_way_it_goes_on(tmp_path):
    """Killed in the second stage: the first is not run again, and the verdict is complete."""
    output, stages = tmp_path / "found.json", ("--only", "faces", "adapter")
    process = subprocess.Popen(command(output, *stages), stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + PATIENCE
    while not output.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = json.loads(output.read_text())
    assert list(first["stages"]) == ["adapter"] and not first["complete"]
    code, said, content = run(output, *stages)
    assert code == 0, said
    assert content["stages"]["adapter"] == first["stages"]["adapter"] and content["stages"]["faces"]["status"] == "done"
    assert content["complete"] and {row["stage"] for row in content["verdict"]} == {"adapter", "faces"}
    assert "An identity has the bits of the adapter loaded on the device: torch.float16: the same bits" in said
    assert COMFYUI not in json.dumps(content)


@pytest.mark.long
def test_every_stage_on_the_miniature(tmp_path):
    code, said, content = run(tmp_path / "found.json", "--minutes", "30")
    assert code == 0 and content["complete"], said
    assert len(content["stages"]) == 7


@pytest.mark.long
def test_the_bundle_runs_by_itself(tmp_path):
    """Without the development environment's folder; on the CPU, one stage."""
    bundle = tmp_path / "bundle"
    made = subprocess.run([sys.executable, str(CHECKOUT / "dev" / "gpu.py"), "--bundle", str(bundle)], capture_output=True,
                          text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    variables = {name: value for name, value in os.environ.items() if not name.startswith("INSTANTID_")}
    done = subprocess.run([sys.executable, str(bundle / "dev" / "gpu.py"), "--device", "cpu", "--only", "oracle", "--output",
                           str(tmp_path / "found.json")], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
