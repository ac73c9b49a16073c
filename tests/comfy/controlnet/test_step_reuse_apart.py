"""Step reuse never gives a call the residuals of other latents, another hint or another person."""

import comfy.context_windows
import comfy.sample
import pytest
import torch
from control_nets import (
    SIX,
    alike,
    apply,
    control_of,
    controls,
    counted,
    drawing,
    randn,
    same,
    sampled,
    step,
    texts,
    tokens,
)
from instantid_swift.controlnet import step_reuse
from instantid_swift.controlnet.step_reuse import with_step_reuse
from oracle import fixtures as fx

pytestmark = pytest.mark.newest


def halves(world, other_identity):
    """Two areas of one size that ComfyUI cannot run as one batch, of one pooled text; one tokens or two."""
    text, options = world.positive[0]
    left = [[text, {**options, "area": (8, 8, 0, 0), "strength": 1.0}]]
    right = [[text.repeat(1, 5, 1), {**options, "area": (8, 8, 0, 8), "strength": 1.0}]]
    if not other_identity:
        return apply(world.net, left + right, world.negative)
    positive, negative = apply(world.net, left, world.negative)
    return [*positive, *apply(world.net, right, [], identity=tokens(seed=41))[0]], negative


def test_areas_that_cannot_be_told_apart_are_evaluated(world):
    exact, exact_calls = sampled(world, *halves(world, False), **{**SIX, "size": (8, 16), "cfg": 1.0})
    latents, calls = sampled(world, *with_step_reuse(*halves(world, False), every=2), **{**SIX, "size": (8, 16), "cfg": 1.0})
    assert torch.equal(latents, exact) and calls.evaluations == exact_calls.evaluations == 12


def test_areas_of_two_persons_have_their_own(world):
    with controls(world.model) as seen:
        _, calls = sampled(world, *with_step_reuse(*halves(world, True), every=2), **{**SIX, "size": (8, 16), "cfg": 1.0})
    assert calls.evaluations == 8 and len(seen) == 12
    for first in (2, 6):
        assert alike(seen[first], seen[first + 2]) and alike(seen[first + 1], seen[first + 3])
        assert not alike(seen[first], seen[first + 1])


def test_context_windows_are_evaluated(world):
    """All frames with one person's tokens: at each step several calls of the same content, of other latents."""
    windows = comfy.context_windows
    model = world.model.clone()
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.FLAT), context_length=1, dim=0)
    settings = {"steps": 2, "size": (8, 8), "batch": 3}
    exact, _ = sampled(world, *apply(world.net, *texts(world)), model, **settings)
    latents, calls = sampled(world, *with_step_reuse(*apply(world.net, *texts(world)), every=2), model, **settings)
    assert torch.equal(latents, exact) and calls.evaluations == 6


def test_what_tells_calls_apart(world):
    """At each step each kind of call once, so that each is evaluated in the first two and reused in the third."""
    control = control_of(with_step_reuse(*apply(world.net, *texts(world)), every=2))
    net, plain = control.control_model, world.net.control_model
    hints = [drawing(seed=seed).movedim(-1, 1)[:, :, :64, :64] for seed in (21, 22)]
    contexts = [randn(seed, 1, 16, fx.CONTEXT) for seed in (61, 62)]
    calls = [{"hint": hints[0], "context": contexts[0]}, {"hint": hints[1], "context": contexts[0]},
             {"hint": hints[0], "context": contexts[1]}, {"hint": hints[0], "context": contexts[0], "y": randn(53, 1, 2816)},
             {"hint": hints[0].repeat(1, 1, 1, 2), "context": contexts[0], "width": 16}]
    with counted(world.net) as counts:
        for call in calls:
            step(net, 0, **call)
        second = [step(net, 1, level=450.0, **call) for call in calls]
        assert counts().evaluations == 10
        assert all(same(step(net, 2, level=400.0, **call), result) for call, result in zip(calls, second, strict=True))
        assert counts().evaluations == 10
    assert all(same(step(plain, 1, level=450.0, **call), result) for call, result in zip(calls, second, strict=True))


@pytest.mark.parametrize("again, reused", [(False, 3), (True, 0)], ids=["each once", "one twice"])
def test_more_kinds_of_calls_than_are_kept(world, monkeypatch, again, reused):
    """And more contexts than IdentityNet knows at a time."""
    monkeypatch.setattr(step_reuse, "MOST_KEPT", 3)
    net = control_of(with_step_reuse(*apply(world.net, *texts(world)), every=2)).control_model
    hint, contexts = drawing().movedim(-1, 1)[:, :, :64, :64], [randn(60 + number, 1, 16, fx.CONTEXT) for number in range(6)]
    calls = [*contexts, *contexts[:again]]
    with counted(world.net) as counts:
        for level in (600.0, 500.0, 400.0):
            for number, context in enumerate(calls):
                step(net, number, hint=hint, context=context.clone(), level=level)
        assert counts().evaluations == 3 * len(calls) - reused


@pytest.mark.parametrize("every, in_a_run, levels, persons, expected", [
    (9, None, (500, 400, 450, 400, 300), (0, 0, 0, 0, 0), [1, 2, 3, 4, 4]),
    (9, (999.0, 0.0), (500, 400, 300, 350, 250, 200, 150), (0,) * 7, [1, 2, 2, 3, 4, 5, 6]),
    (2, None, (500, 400, 300, 200), (0, 1, 0, 0), [1, 2, 3, 3]),
], ids=["another run", "a sampler that goes back", "a step of another person between"])
def test_what_is_older_than_the_step_before_is_evaluated(world, every, in_a_run, levels, persons, expected):
    """Noise levels that rise begin another run, of which nobody tells. In a run all is evaluated from there on. ComfyUI runs
    passes together or apart as memory allows: residuals of a layout that comes back may be old."""
    control = control_of(with_step_reuse(*apply(world.net, *texts(world)), every=every))
    if in_a_run:
        control.timestep_range = in_a_run  # as ComfyUI sets it
    hint, contexts = drawing().movedim(-1, 1)[:, :, :64, :64], [randn(seed, 1, 16, fx.CONTEXT) for seed in (61, 62)]
    with counted(world.net) as counts:
        so_far = []
        for level, person in zip(levels, persons, strict=True):
            step(control.control_model, 1, hint=hint, context=contexts[person], level=float(level))
            so_far.append(counts().evaluations)
    assert so_far == expected


@pytest.mark.parametrize("sampler", ["heun", "exp_heun_2_x0"])
def test_heuns_first_correction_is_evaluated(world, sampler):
    """It asks for the second noise level, which its second step asks for again: not before that can it be told apart."""
    def latents(positive, negative):
        noise = randn(7, 1, 4, 8, 8)
        with torch.inference_mode():
            return comfy.sample.sample(world.model, noise, 4, 4.5, sampler, "normal", positive, negative,
                                       torch.zeros_like(noise), disable_pbar=True, seed=7)
    exact = latents(*apply(world.net, *texts(world)))
    assert torch.equal(latents(*with_step_reuse(*apply(world.net, *texts(world)), every=3)), exact)
