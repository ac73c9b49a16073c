"""IdentityNet in the conditionings: the bits of ComfyUI's own ControlNet, with what is constant in a run computed once."""

import gc
import weakref

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.utils
import pytest
import torch
from control_nets import (
    PROJECTIONS,
    PROMPT_TOKENS,
    STEPS,
    Calls,
    apply,
    by_hand,
    counted,
    drawing,
    kept,
    long_negative,
    randn,
    remembered,
    same,
    sampled,
    texts,
    tokens,
    with_control,
)
from instantid_swift.controlnet.identity_net import IdentityNet, MemoizedLayer, with_cached_constants
from instantid_swift.controlnet.step_reuse import StepReuse
from oracle import cases
from oracle import fixtures as fx

# ---- the same bits, from fewer computations


@pytest.mark.parametrize("wiring, sampling, expected", [
    pytest.param({}, {}, Calls(1, 1, 2), id="both passes"),
    pytest.param({"texts": long_negative, "hint": drawing(2)}, {"batch": 2}, Calls(1, 2, 4), id="passes apart, two hints"),
    pytest.param({"identity": tokens(2)}, {"batch": 2}, Calls(1, 1, 2), id="two references"),
    pytest.param({"mask": cases.left_half()}, {"size": (8, 12)}, Calls(1, 1, 2), id="mask"),
    pytest.param({}, {"cfg": 1.0}, Calls(1, 1, 2), id="no negative", marks=pytest.mark.newest),
])
def test_latents_are_those_of_the_plain_control_net(world, wiring, sampling, expected):
    """And the hint is read once in a run, the tokens once for each batch layout."""
    wiring = dict(wiring)
    given = wiring.pop("texts", texts)(world)
    ours, calls = sampled(world, *apply(world.net, *given, **wiring), **sampling)
    plain, plain_calls = sampled(world, *by_hand(world.net, *given, **wiring), **sampling)
    assert torch.equal(ours, plain) and ours.isfinite().all()
    assert calls == expected
    assert plain_calls == Calls(*[expected.evaluations] * 3)


@pytest.mark.newest
def test_weights_in_another_precision_than_the_computation(world):
    """As ComfyUI runs a file of fp16 on hardware that lacks it: weights are cast at each use, in the layers that are shared."""
    net = fx.mini_identity_net(dtype=torch.float16, shape=fx.SHALLOW)
    config = {key: value for key, value in fx.SHALLOW.items()
              if key not in ("out_channels", "transformer_depth_output", "use_temporal_attention")}
    model = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float16, operations=comfy.ops.manual_cast).eval()
    model.load_state_dict(net.control_model.state_dict())
    net = comfy.controlnet.ControlNet(model, load_device=torch.device("cpu"), manual_cast_dtype=torch.float32)
    ours, calls = sampled(world, *apply(net, *texts(world)), net=net)
    plain, _ = sampled(world, *by_hand(net, *texts(world)), net=net)
    assert torch.equal(ours, plain)
    assert calls == Calls(1, 1, 2)


@pytest.mark.newest
def test_every_run_computes_its_own_and_keeps_nothing(world):
    positive, negative = apply(world.net, *texts(world))
    for size in ((8, 8), (8, 8), (12, 8)):
        latents, calls = sampled(world, positive, negative, size=size)
        assert calls == Calls(1, 1, 2) and remembered(positive[0][1]["control"]) == 0
        assert torch.equal(latents, sampled(world, *by_hand(world.net, *texts(world)), size=size)[0])


def test_two_sizes_in_one_run(world):
    """Areas: ComfyUI scales the hint anew at each change of the size, which plain ControlNets then read anew."""
    area = [[randn(41, 1, PROMPT_TOKENS, fx.CONTEXT), {**world.positive[0][1], "area": (4, 4, 2, 2), "strength": 1.0}]]
    given = world.positive + area, world.negative
    conditionings = apply(world.net, *given)
    ours, calls = sampled(world, *conditionings)
    plain, plain_calls = sampled(world, *by_hand(world.net, *given))
    assert torch.equal(ours, plain)
    assert calls == Calls(2, 2, 4) and plain_calls == Calls(4, 4, 4)
    assert remembered(conditionings[0][0][1]["control"]) == 0


def test_after_another_control_net_and_with_two_identities(world):
    other = world.net.copy().set_cond_hint(drawing(seed=22).movedim(-1, 1), 0.4, (0.0, 1.0))
    given = with_control(texts(world), other)

    def three(wire):
        left, right = cases.left_half(), 1 - cases.left_half()
        positive_a, negative = wire(world.net, *given, mask=left)
        positive_b, _ = wire(world.net, *given, identity=tokens(seed=35), hint=drawing(seed=23), mask=right)
        positive_c, negative_c = wire(world.net, positive_a, negative, identity=tokens(seed=37), strength=0.3)
        return positive_c + positive_b, negative_c

    ours, calls = sampled(world, *three(apply))
    plain, plain_calls = sampled(world, *three(by_hand))
    assert torch.equal(ours, plain)
    # at each of the two steps: the third, before it the first, before that the other one; and the second, before it the other
    assert plain_calls == Calls(10, 10, 10)
    assert calls == Calls(4 + 3, 4 + 3, 10)


def test_a_step_outside_of_the_window_does_not_run_it(world):
    window = {"window": (0.3, 0.7)}
    ours, calls = sampled(world, *apply(world.net, *texts(world), **window), steps=5)
    plain, plain_calls = sampled(world, *by_hand(world.net, *texts(world), **window), steps=5)
    assert torch.equal(ours, plain)
    assert calls == Calls(1, 1, plain_calls.evaluations) and 0 < calls.evaluations < 5


# ---- strength 0


@pytest.mark.newest
def test_strength_0_does_not_run_it(world):
    """A ControlNet before it reads the identity tokens, as it does at any strength."""
    wiring = {"strength": 0, "mask": cases.left_half()}
    other = fx.mini_identity_net(seed=9, shape=fx.SHALLOW).set_cond_hint(drawing(seed=22).movedim(-1, 1), 0.4, (0.0, 1.0))
    given = with_control(texts(world), other)
    conditionings = apply(world.net, *given, **wiring)
    ours, calls = sampled(world, *conditionings)
    plain, plain_calls = sampled(world, *by_hand(world.net, *given, **wiring))
    assert torch.equal(ours, plain)
    assert calls == Calls(0, 0, 0) and plain_calls.evaluations == 2
    for (_, options), side in zip([*conditionings[0], *conditionings[1]], tokens(), strict=True):
        assert options["control"] is other and options["control_apply_to_uncond"] is False
        assert torch.equal(options["cross_attn_controlnet"], side)
    assert "mask" in conditionings[0][0][1]
    assert not any("control" in options for side in apply(world.net, *texts(world), strength=0) for _, options in side)


# ---- what is not ours


def test_the_given_control_net_is_not_changed(world):
    def state():
        modules = dict(world.net.control_model.named_modules())
        return (dict(vars(world.net)), list(modules.items()), [dict(vars(module)) for module in modules.values()],
                {name: (parameter, parameter._version) for name, parameter in world.net.control_model.named_parameters()})

    def unchanged(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(unchanged(a[key], b[key]) for key in a)
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(unchanged, a, b))
        return a is b or (not isinstance(a, torch.Tensor) and a == b)

    before = state()
    fx.sample(world.model, *apply(world.net, *texts(world)), **STEPS)
    assert unchanged(before, state())


@pytest.mark.newest
def test_weights_are_the_given_ones_wherever_they_go(world):
    """Loading, unloading and patching of ComfyUI replace parameters in the layers that hold them."""
    net = fx.mini_identity_net(shape=fx.SHALLOW)
    control = apply(net, *texts(world))[0][0][1]["control"]
    assert control.get_models() == [net.control_model_wrapped]
    for name, parameter in list(net.control_model.named_parameters()):
        comfy.utils.set_attr_param(net.control_model, name, parameter + 1)
    ours = {id(parameter) for parameter in control.control_model.parameters()}
    assert ours == {id(parameter) for parameter in net.control_model.parameters()}
    shared = set(net.control_model.modules())
    assert all(module in shared for module in control.control_model.modules() if next(module.children(), None) is None)


def test_it_is_the_class_that_other_packs_look_for(world):
    """Advanced-ControlNet replaces exactly ComfyUI's ControlNets by its own, built around the same model, where AnimateDiff
    slides a window over the frames; each window has its own hint then. AnimateDiff refuses what was not replaced."""
    class Advanced(comfy.controlnet.ControlNet):
        def get_control(self, *arguments):
            self.cond_hint_original, all_frames = self.cond_hint_original[self.frames], self.cond_hint_original
            self.cond_hint = None
            try:
                return super().get_control(*arguments)
            finally:
                self.cond_hint_original = all_frames

    def converted(given, frames):
        assert type(given) is comfy.controlnet.ControlNet
        advanced = Advanced(given.control_model, load_device=given.load_device)
        given.copy_to(advanced)
        advanced.control_model_wrapped, advanced.frames = given.control_model_wrapped.clone(), frames
        return advanced

    def latents(wire):
        conditionings = wire(world.net, *texts(world), hint=drawing(4))
        given = conditionings[0][0][1]["control"]
        given.pre_run(world.model.model, lambda percent: percent)  # ComfyUI has done that before they are replaced
        pictures = [fx.sample(world.model, *with_control(conditionings, converted(given, frames)), batch=2, **STEPS)
                    for frames in ([0, 1], [2, 3])]
        if isinstance(given.control_model, IdentityNet):
            assert remembered(given) == 0
        return torch.cat(pictures)

    assert torch.equal(latents(apply), latents(by_hand))


@pytest.mark.newest
@pytest.mark.parametrize("kind", ["another pack's", "another model's", "control lora"])
def test_other_kinds_stay_as_they_are(world, kind):
    class Other(comfy.controlnet.ControlNet):
        pass

    net = {"another pack's": lambda: Other(world.net.control_model, load_device=torch.device("cpu")),
           "another model's": lambda: comfy.controlnet.ControlNet(torch.nn.Linear(1, 1), load_device=torch.device("cpu")),
           "control lora": lambda: comfy.controlnet.ControlLora({})}[kind]()
    before = dict(vars(net))
    assert with_cached_constants(net) is net and vars(net) == before


# ---- how long it is kept, and what is told apart


@pytest.mark.newest
def test_nothing_is_kept_where_gradients_are_wanted(world):
    net = with_cached_constants(world.net.copy())
    net.control_model.reuse = StepReuse(3)
    for _ in range(3):
        context = randn(61, 2, 16, fx.CONTEXT).requires_grad_()
        out = net.control_model(x=randn(51, 2, 4, 16, 16), hint=torch.zeros(1, 3, 128, 128), context=context,
                                timesteps=torch.tensor([5.0, 5.0]), y=randn(52, 2, 2816))
        out["middle"][0].sum().backward()
        assert context.grad.abs().sum() > 0 and remembered(net) == kept(net) == 0


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
    inputs = {"x": randn(51, 2, 4, 16, 16), "timesteps": torch.tensor([5.0, 5.0]), "y": randn(52, 2, 2816)}
    order = (0, 1, 0, 1, *range(6), 5)
    with torch.inference_mode(), counted(world.net) as calls:
        for number in order:
            assert same(*(model(hint=net.cond_hint, context=contexts[number].clone(), **inputs)
                          for model in (net.control_model, world.net.control_model)))
            assert remembered(net) <= 1 + 4 * PROJECTIONS
        assert calls() == Calls(1 + len(order), 6 + len(order), 2 * len(order))
