"""Hints as ComfyUI beyond 0.30.0 keeps them: counts as with one hint, the bits of its own ControlNet, no further read."""

import pytest
import torch
from control_nets import (
    PROJECTIONS,
    SIX,
    Calls,
    apply,
    by_hand,
    control_of,
    drawing,
    kept,
    long_negative,
    prompt,
    remembered,
    sampled,
    texts,
)
from instantid_swift.controlnet.step_reuse import with_step_reuse
from oracle import fixtures as fx
from stand_ins.newer_comfyui import with_compiler, with_hints_in_a_dictionary
from stand_ins.traffic import FROM_DEVICE, simulated_device

FOUR = {"steps": 4, "size": (8, 8)}
pytestmark = pytest.mark.newest


@pytest.fixture(autouse=True)
def newer(monkeypatch):
    with_hints_in_a_dictionary(monkeypatch)


@pytest.mark.parametrize("given, expected", [
    (texts, Calls(1, 1, 4)), (long_negative, Calls(1, 2, 8)),
], ids=["together", "passes apart"])
def test_hints_are_known_by_content(world, given, expected):
    conditionings = apply(world.net, *given(world), hint=drawing(2))
    for batch in (2, 3):
        ours, calls = sampled(world, *conditionings, batch=batch, **FOUR)
        plain, _ = sampled(world, *by_hand(world.net, *given(world), hint=drawing(2)), batch=batch, **FOUR)
        assert torch.equal(ours, plain) and calls == expected
        assert remembered(control_of(conditionings)) == 0


def test_steps_are_reused(world):
    conditionings = with_step_reuse(*apply(world.net, *texts(world), hint=drawing(2)), every=3)
    for _ in range(2):
        assert sampled(world, *conditionings, batch=2, **SIX)[1] == Calls(1, 1, 3)
        assert kept(control_of(conditionings)) == remembered(control_of(conditionings)) == 0


def test_a_step_reads_as_often_as_with_one_hint():
    with simulated_device() as (device, watch):
        model, net = (make(device=device, shape=fx.SHALLOW) for make in (fx.mini_sdxl, fx.mini_identity_net))

        def reads(hints, steps):
            with watch.count() as traffic:
                fx.sample(model, *apply(net, prompt(11), prompt(12), hint=drawing(hints)), steps=steps, size=(8, 8), batch=2)
            return {key: traffic.counts[key] for key in ("host reads", ("copies", FROM_DEVICE, "tensors"))}
        reads(1, 1)
        of_a_step = []
        for hints in (1, 2):
            few, many = reads(hints, 1), reads(hints, 2)
            of_a_step.append({key: many[key] - few[key] for key in few})
        assert of_a_step[0] == of_a_step[1] and all(of_a_step[0].values())


def test_what_outlives_a_forward_is_made_while_the_compiler_looks_away(world, monkeypatch):
    """The hint block, the projections, a context; with step reuse 2 evaluations of 4, too. The latents are those without it."""
    conditionings = apply(world.net, *texts(world), hint=drawing(2))
    expected, _ = sampled(world, *conditionings, batch=2, **FOUR)
    compiler = with_compiler(monkeypatch)
    assert torch.equal(sampled(world, *conditionings, batch=2, **FOUR)[0], expected)
    assert compiler == [False, 1 + PROJECTIONS + 1]
    sampled(world, *with_step_reuse(*conditionings, every=2), batch=2, **FOUR)
    assert compiler == [False, 2 * (1 + PROJECTIONS + 1) + 3]
