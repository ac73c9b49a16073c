"""Step reuse: how often IdentityNet is evaluated, that residuals never reach other latents than theirs, and what it changes."""

import copy

import pytest
import torch
from control_nets import (
    PROJECTIONS,
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
    remembered,
    sampled,
    step,
    texts,
    with_control,
)
from instantid_swift import performance
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


def test_the_report_says_how_many_were_reused(world):
    with performance.run() as run:
        fx.sample(world.model, *with_step_reuse(*apply(world.net, *texts(world)), every=3), **SIX)
    assert run.caches["IdentityNet steps"] == [3, 3]


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

    conditionings, settings = with_step_reuse(*apply(world.net, *texts(world)), every=10), {"steps": 6, "size": (8, 8)}
    control = control_of(conditionings)
    expected, _ = sampled(world, *conditionings, start=2, **settings)
    hook = world.model.model.diffusion_model.register_forward_pre_hook(stop)
    with pytest.raises(InterruptedError):
        fx.sample(world.model, *conditionings, **settings)
    hook.remove()
    assert kept(control) == 1 and control.cond_hint is not None
    latents, calls = sampled(world, *conditionings, start=2, **settings)
    assert torch.equal(latents, expected) and calls.evaluations == 2


# ---- what is not ours, copies


def test_what_is_given_is_not_changed(world):
    given = apply(world.net, *texts(world))
    entries = [(entry, dict(entry[1])) for conditioning in given for entry in conditioning]
    control, before = control_of(given), dict(vars(control_of(given)))
    expected, calls = sampled(world, *given, **SIX)
    before_model = dict(vars(control.control_model))
    fx.sample(world.model, *with_step_reuse(*given, every=3), **SIX)
    assert all(entry[1].keys() == options.keys() and all(entry[1][key] is options[key] for key in options)
               for entry, options in entries)
    assert all(vars(control)[key] is value or vars(control)[key] == value for key, value in before.items())
    assert all(vars(control.control_model)[key] is value for key, value in before_model.items())
    assert torch.equal(sampled(world, *given, **SIX)[0], expected) and calls.evaluations == 6


def test_conditionings_without_identity_net(world):
    for given in (texts(world), with_control(texts(world), world.net)):
        for old, new in zip(given, with_step_reuse(*given, every=2), strict=True):
            assert [(text is new_text, options == new_options) for (text, options), (new_text, new_options)
                    in zip(old, new, strict=True)] == [(True, True)]


def test_it_can_be_taken_back(world):
    conditionings = with_step_reuse(*with_step_reuse(*apply(world.net, *texts(world)), every=3), every=1)
    assert sampled(world, *conditionings, **SIX)[1].evaluations == 6


def test_a_copy_and_a_deep_copy_of_the_control(world):
    """As several GPUs have it, in newer versions of ComfyUI: the model is copied with its weights, and nothing else."""
    conditionings = with_step_reuse(*apply(world.net, *texts(world)), every=3)
    expected = fx.sample(world.model, *conditionings, **SIX)
    control = control_of(conditionings)
    hint = torch.zeros(1, 3, 64, 64)
    step(control.control_model, 1, hint=hint, context=randn(61, 1, 16, fx.CONTEXT))
    assert kept(control) == 1 and remembered(control) == 1 + PROJECTIONS
    twin = control.copy()
    twin.control_model = copy.deepcopy(twin.control_model)
    assert not set(twin.control_model.parameters()) & set(world.net.control_model.parameters())
    assert kept(twin) == remembered(twin) == 0
    assert (twin.control_model.reuse.every, twin.control_model.reuse.most_drift) == (3, 1.0)
    for other, evaluations in ((control.copy(), 3), (twin, 0)):  # the twin's layers are its own and not counted
        for _ in range(2):
            latents, calls = sampled(world, *with_control(conditionings, other), **SIX)
            assert torch.equal(latents, expected) and calls.evaluations == evaluations
    assert kept(twin) == remembered(twin) == 0
