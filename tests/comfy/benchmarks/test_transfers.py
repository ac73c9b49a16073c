"""The benchmark of transfers, and with its figures the rules of what may cross between host and device.

The device is simulated (tests/stand_ins/traffic.py); torch's profiler, which knows nothing of it, counts host reads once more.
"""

import json
import os

import comfy.model_management
import instantid_swift
import pytest
import runtime
import torch
from oracle import fixtures as fx

from benchmarks.__main__ import parser, run_stage

pytestmark = pytest.mark.newest
COMFYUI = os.environ["INSTANTID_COMFYUI"]
BLOCKS = 10  # with cross-attention, of the input and output sides of the shallow UNet


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of `python -m benchmarks transfers`, run in this process, with a shallow UNet."""
    output = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    with pytest.MonkeyPatch.context() as patch:
        for name, depth in fx.SHALLOW.items():
            patch.setitem(fx.SDXL_MINI, name, depth)
        patch.setattr(runtime, "import_pack", lambda: instantid_swift)
        patch.setattr(comfy.model_management, "current_loaded_models", [])
        run_stage(parser().parse_args(["transfers", "--iterations", "1", "--comfyui", COMFYUI, "--output", str(output)]),
                  "transfers")
    return json.loads(output.read_text())


@pytest.fixture
def figures(written):
    return written["stages"]["transfers"]["figures"]


def test_the_file_has_the_stage_with_machine_versions_and_settings(written):
    assert written["machine"]["cores"] and written["versions"]["torch"] == torch.__version__
    stage, = written["stages"].values()
    assert stage["figures"] and stage["seconds"] > 0 and stage["settings"]["iterations"] == 1
    assert COMFYUI not in json.dumps(written)


NOTHING = {"host reads": 0, "copies to the device": 0, "bytes to the device": 0, "copies from the device": 0,
           "bytes from the device": 0}
TOKENS = {"copies": 2, "bytes": 2 * 16 * 2048 * 2}
BANK = {"copies": 1, "bytes": 10_649_600 // 10}  # the miniature's blocks are a tenth as wide


def test_a_person_is_prepared_with_two_copies_of_two_kilobytes(figures):
    """Besides the adapter's weights, which ComfyUI loads. Tokens, K and V are made on the device and kept on the host; no photo
    gets to the device, and of what is kept nothing but the tokens until the sampling begins."""
    made = dict(figures["by kind"]["preparing"]["embedding to tokens, K and V"])
    assert made.pop("adapter weights to the device")["copies"] > 100
    assert made == {"embedding to the device": {"copies": 2, "bytes": 2048},
                    "K and V from the device": {"copies": 1, "bytes": TOKENS["bytes"] + BANK["bytes"]}}, "tokens with them"
    assert figures["preparing"]["embedding to tokens, K and V"]["host reads"] == 0
    for phase in ("photo to embedding and keypoints", "the same person again"):
        assert figures["preparing"][phase] == NOTHING, phase
    assert figures["by kind"]["preparing"]["patching model and conditionings"] == {"identity tokens to the device": TOKENS}


@pytest.mark.parametrize("what", ["a step", "a run", "the first run"])
def test_a_person_adds_one_copy_of_k_and_v_to_a_run(figures, what):
    """Beyond the plain UNet; and where there is IdentityNet, beyond that: whose hint is copied once a run."""
    of = figures["by kind"][what]
    bank = {"K and V to the device": BANK} if what == "a run" else {}
    assert of["term"] == bank and figures[what]["term"]["host reads"] == 0
    assert of["Apply InstantID"] == {**of["UNet and IdentityNet"], **bank}
    net = of["UNet and IdentityNet"]
    assert ("hint to the device" in net) == (what == "a run")
    assert not any(kind in net for kind in ("identity tokens to the device", "embedding to the device"))


def test_identity_net_reads_its_tokens_once_a_step(figures):
    """To tell contexts apart by content: 64 KB for each of the two passes, which are one call here."""
    assert figures["by kind"]["a step"]["UNet and IdentityNet"]["identity tokens from the device"] == {
        "copies": 1, "bytes": 2 * 16 * 2048 * 2}


def test_a_window_is_read_once_a_step_and_a_mask_copied_once(figures):
    assert figures["a step"]["term, in a part of the run"] == {**NOTHING, "host reads": 1}
    assert figures["a run"]["term, in a part of the run"] == figures["the first run"]["term, in a part of the run"] == NOTHING
    assert figures["a step"]["term, under a mask"] == figures["the first run"]["term, under a mask"] == NOTHING
    assert figures["by kind"]["a run"]["term, under a mask"] == {
        "K and V to the device": BANK, "mask to the device": {"copies": 1, "bytes": 96 * 96 * 4}}


def test_the_counting_sees_what_it_counts(figures):
    """The formula without caches fetches a noise level per block; tokens left on the host are copied at every step."""
    assert figures["a step"]["term, formula without caches"] == {**NOTHING, "host reads": BLOCKS}
    assert figures["by kind"]["a step"]["Apply InstantID, tokens left on the host"]["identity tokens to the device"] == {
        "copies": 2, "bytes": 2 * 131072}
    plain = figures["by kind"]["plain UNet"]["a run"]
    assert plain["latents to the device"]["copies"] and plain["latents from the device"]["copies"]
