"""Step reuse: how often IdentityNet is evaluated, that residuals never reach other latents than theirs, and what it changes."""

import copy

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
    kept,
    long_negative,
    randn,
    same,
    sampled,
    step,
    texts,
    with_control,
)
from instantid_swift.controlnet.step_reuse import with_step_reuse
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest

# ---- which steps


@pytest.fixture(scope="module")
def exact(world):
    """Latents of six steps that are all evaluated."""
    return sampled(world, *apply(world.net, *texts(world)), **SIX)[0]


@pytest.mark.parametrize("every, evaluations", [(1, 6), (2, 4), (3, 3), (10, 2)])
def test_every_nth_step_is_evaluated(nodes, world, exact, every, evaluations):
    """And the first two."""
    conditionings = cases.call(nodes, "InstantIDStepReuse", every=every, most_drift=1.0,
                               **dict(zip(("positive", "negative"), apply(world.net, *texts(world)), strict=True)))
    latents, calls = sampled(world, *conditionings, **SIX)
    assert calls.evaluations == evaluations
    difference = (latents - exact).norm() / exact.norm()
    assert difference == 0 if every == 1 else 0 < difference < 0.5


def test_in_between_the_residuals_are_the_last_ones(world):
    """ComfyUI multiplies them by the strength where they are."""
    with controls(world.model) as exact:
        fx.sample(world.model, *apply(world.net, *texts(world)), **SIX)
    with controls(world.model) as reusing:
        fx.sample(world.model, *with_step_reuse(*apply(world.net, *texts(world)), every=3), **SIX)
    assert [alike(a, b) for a, b in zip(reusing, reusing[1:], strict=False)] == [False, True, True, False, True]
    assert alike(reusing[0], exact[0]) and alike(reusing[1], exact[1])


def test_the_drift_decides_between_two_evaluations(world):
    """Small from the 1st step to the 2nd, so that the 3rd is left out; large to the 4th, so that the 5th is not."""
    control = control_of(with_step_reuse(*apply(world.net, *texts(world)), every=2, most_drift=0.1))
    hint, context = drawing().movedim(-1, 1)[:, :, :64, :64], randn(61, 1, 16, fx.CONTEXT)
    with counted(world.net) as calls:
        so_far = []
        for level, y in ((900.0, 1.0), (899.0, 1.0), (898.0, 1.0), (100.0, 1.0), (99.0, 1.0), (98.0, 1.0)):
            step(control.control_model, 1, hint=hint, context=context, level=level, y=y * randn(52, 1, 2816))
            so_far.append(calls().evaluations)
    assert so_far == [1, 2, 2, 3, 4, 4]


def test_a_window_begins_with_two_evaluations(world):
    conditionings, settings = apply(world.net, *texts(world), window=(0.3, 0.7)), {"steps": 10, "size": (8, 8)}
    _, exact = sampled(world, *conditionings, **settings)
    latents, calls = sampled(world, *with_step_reuse(*conditionings, every=2), **settings)
    assert latents.isfinite().all()
    assert 2 < exact.evaluations < 10 and calls.evaluations == 1 + exact.evaluations // 2


# ---- layouts, persons, runs


@pytest.mark.parametrize("sampling, given, per_step", [
    ({"batch": 3}, texts, 1), ({"cfg": 1.0}, texts, 1), ({"batch": 2}, long_negative, 2),
], ids=["three latents", "no negative", "passes apart"])
def test_layouts_of_the_batch(world, sampling, given, per_step):
    with controls(world.model) as seen:
        latents, calls = sampled(world, *with_step_reuse(*apply(world.net, *given(world)), every=2), **{**SIX, **sampling})
    assert latents.isfinite().all() and calls.evaluations == 4 * per_step
    steps = [seen[start:start + per_step] for start in range(0, len(seen), per_step)]
    for number in (1, 3):
        assert all(map(alike, steps[number], steps[number + 1]))
    assert per_step == 1 or not alike(*steps[0])


def test_every_run_begins_with_evaluations_and_keeps_nothing(world):
    conditionings = with_step_reuse(*apply(world.net, *texts(world)), every=10)
    first = None
    for size in ((8, 8), (16, 8), (8, 8)):
        latents, calls = sampled(world, *conditionings, **{**SIX, "size": size})
        assert calls.evaluations == 2 and kept(control_of(conditionings)) == 0
        first = latents if first is None else first
        assert size != (8, 8) or torch.equal(latents, first)


def test_a_run_after_an_interrupted_one_begins_with_evaluations(world):
    """ComfyUI's hint stays then. The next run begins at a lower noise level than where the last one ended."""
    def stop(model, arguments):
        raise InterruptedError

    conditionings = with_step_reuse(*apply(world.net, *texts(world)), every=10)
    expected, _ = sampled(world, *conditionings, start=2, **SIX)
    hook = world.model.model.diffusion_model.register_forward_pre_hook(stop)
    with pytest.raises(InterruptedError):
        fx.sample(world.model, *conditionings, **SIX)
    hook.remove()
    assert kept(control_of(conditionings)) == 1
    latents, calls = sampled(world, *conditionings, start=2, **SIX)
    assert torch.equal(latents, expected) and calls.evaluations == 2


# ---- what is not ours, copies


def test_conditionings_without_identity_net(world):
    for given in (texts(world), with_control(texts(world), world.net)):
        for old, new in zip(given, with_step_reuse(*given, every=2), strict=True):
            assert [(text is new_text, options == new_options) for (text, options), (new_text, new_options)
                    in zip(old, new, strict=True)] == [(True, True)]


def test_it_can_be_taken_back(world):
    conditionings = with_step_reuse(*with_step_reuse(*apply(world.net, *texts(world)), every=3), every=1)
    assert sampled(world, *conditionings, **SIX)[1].evaluations == 6


def test_a_deep_copy_has_its_own_weights_and_nothing_kept(world):
    """As several GPUs have it, in newer versions of ComfyUI."""
    control = control_of(with_step_reuse(*apply(world.net, *texts(world)), every=3))
    hint = torch.zeros(1, 3, 64, 64)  # what is kept goes with it
    step(control.control_model, 1, hint=hint, context=randn(61, 1, 16, fx.CONTEXT))
    twin = control.copy()
    twin.control_model = copy.deepcopy(twin.control_model)
    assert not set(twin.control_model.parameters()) & set(world.net.control_model.parameters())
    assert kept(control) == 1 and kept(twin) == 0 and twin.control_model.reuse.every == 3


# ---- never the residuals of other latents, another hint or another person


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


def test_heuns_first_correction_is_evaluated(world):
    """It asks for the second noise level, which its second step asks for again: not before that can it be told apart."""
    def latents(positive, negative):
        noise = randn(7, 1, 4, 8, 8)
        with torch.inference_mode():
            return comfy.sample.sample(world.model, noise, 4, 4.5, "heun", "normal", positive, negative,
                                       torch.zeros_like(noise), disable_pbar=True, seed=7)
    exact = latents(*apply(world.net, *texts(world)))
    assert torch.equal(latents(*with_step_reuse(*apply(world.net, *texts(world)), every=3)), exact)
