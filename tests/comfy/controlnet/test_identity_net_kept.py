"""How long IdentityNet keeps what is constant in a run, and what it tells apart."""

import gc
import weakref

import comfy.cldm.cldm
import comfy.controlnet
import pytest
import torch
from control_nets import (
    PROJECTIONS,
    STEPS,
    Calls,
    apply,
    counted,
    drawing,
    evaluate,
    kept,
    long_negative,
    net_config,
    randn,
    remembered,
    same,
)
from instantid_swift.controlnet.identity_net import MemoizedLayer, with_cached_constants
from instantid_swift.controlnet.step_reuse import StepReuse
from oracle import fixtures as fx


def interrupted(world, conditionings):
    """A run that the user stops in its second step."""
    calls = []

    def stop(model, arguments):
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    hook = world.model.model.diffusion_model.register_forward_pre_hook(stop)
    with pytest.raises(InterruptedError):
        fx.sample(world.model, *conditionings, **STEPS)
    hook.remove()


def test_an_interruption_leaves_no_more_than_comfyui_does(world):
    """ComfyUI does not call cleanup() then: its hint stays until the end of the next run, or until the conditionings go. So do
    the results of it, and no others."""
    conditionings = apply(world.net, *long_negative(world))
    control = conditionings[0][0][1]["control"]
    expected = fx.sample(world.model, *conditionings, **STEPS)
    for then in (STEPS, {**STEPS, "size": (12, 8)}):
        interrupted(world, conditionings)
        assert remembered(control) == 1 + 2 * PROJECTIONS and control.cond_hint is not None
        assert torch.equal(fx.sample(world.model, *conditionings, **then), expected) == (then is STEPS)
        assert remembered(control) == 0
    interrupted(world, conditionings)
    results = [weakref.ref(result) for layer in control.control_model.modules() if isinstance(layer, MemoizedLayer)
            for result in layer.results.values()]
    del conditionings, control
    gc.collect()
    assert len(results) == 1 + 2 * PROJECTIONS and not any(result() is not None for result in results)


@pytest.mark.newest
def test_contexts_of_one_shape_are_told_apart(world):
    """Context windows hand over other tokens for other frames, under the same cond's id. What is kept of them is bounded."""
    net = with_cached_constants(world.net.copy())
    net.cond_hint = drawing().movedim(-1, 1).repeat(1, 1, 2, 2)[:, :, :128, :128]
    contexts = [randn(60 + number, 2, 16, fx.CONTEXT) for number in range(6)]
    order = (0, 1, 0, 1, *range(6), 5)
    with torch.inference_mode(), counted(world.net) as calls:
        for number in order:
            assert same(*(evaluate(model, net.cond_hint, contexts[number].clone())
                          for model in (net.control_model, world.net.control_model)))
            assert remembered(net) <= 1 + 4 * PROJECTIONS
        assert calls() == Calls(1 + len(order), 6 + len(order), 2 * len(order))


@pytest.mark.newest
def test_hints_of_one_size_are_told_apart(world):
    """Tiles, as another pack cuts them out of ComfyUI's hint."""
    net = with_cached_constants(world.net.copy())
    net.pre_run(world.model.model, lambda percent: percent)
    tiles = drawing().movedim(-1, 1).repeat(1, 1, 2, 2)[:, :, :128].split(64, dim=3)
    context = randn(61, 2, 16, fx.CONTEXT)
    with torch.inference_mode(), counted(world.net) as calls:
        for number in (0, 1, 0, 2, 1):
            net.cond_hint = tiles[number].clone()
            assert same(*(evaluate(model, net.cond_hint, context.clone(), width=8)
                          for model in (net.control_model, world.net.control_model)))
        assert calls() == Calls(3 + 5, 3 + 5, 5 + 5)
    net.cleanup()
    assert remembered(net) == 0


@pytest.mark.newest
def test_nothing_is_kept_where_gradients_are_wanted(world):
    net = with_cached_constants(world.net.copy())
    net.control_model.reuse = StepReuse(3)
    hint = torch.zeros(1, 3, 128, 128)
    for _ in range(3):
        context = randn(61, 2, 16, fx.CONTEXT).requires_grad_()
        evaluate(net.control_model, hint, context)["middle"][0].sum().backward()
        assert context.grad.abs().sum() > 0
        assert remembered(net) == kept(net) == 0


@pytest.mark.newest
def test_a_union_control_net(world):
    """It reads a slice of the hint, another tensor at each call, and goes on as ever."""
    model = comfy.cldm.cldm.ControlNet(**net_config(
        union_controlnet_num_control_type=6, model_channels=320, num_head_channels=64, num_res_blocks=[1], channel_mult=[1],
        transformer_depth=[1], transformer_depth_middle=1))
    fx._fill(model, 3)
    net = comfy.controlnet.ControlNet(model, load_device=torch.device("cpu"))
    ours = with_cached_constants(net.copy()).control_model
    hint, context = drawing().movedim(-1, 1)[:, :, :64, :64], randn(61, 1, 16, fx.CONTEXT)
    with torch.inference_mode():
        for step in (1.0, 5.0):
            inputs = {"x": randn(51, 1, 4, 8, 8), "timesteps": torch.tensor([step]), "y": randn(52, 1, 2816), "hint": hint,
                      "context": context.clone(), "control_type": [1]}
            assert same(ours(**inputs), model(**inputs))
