"""Wiring of IdentityNet for the tests, its calls counted, and what it keeps."""

import contextlib
from typing import NamedTuple

import torch
from instantid_swift.controlnet.conditioning import apply_identity_net
from instantid_swift.controlnet.identity_net import MemoizedLayer
from oracle import fixtures as fx

STEPS = {"steps": 2, "size": (8, 8)}
SIX = {"steps": 6, "size": (8, 8)}
PROJECTIONS = 2 * 5  # to_k and to_v of the cross-attention blocks of the shallow miniature's IdentityNet
PROMPT_TOKENS = 8  # keys and values of 77 are half of what the miniature computes


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawing(number=1, seed=21):
    """IMAGE [number, 96, 96, 3], mostly black."""
    picture = torch.rand(number, 96, 96, 3, generator=torch.Generator().manual_seed(seed))
    return picture * (picture > 0.8)


def tokens(number=1, seed=31):
    """Identity tokens of the two passes, [number, 16, 2048] each."""
    return randn(seed, number, 16, fx.CONTEXT), randn(seed + 1, number, 16, fx.CONTEXT)


def apply(net, positive, negative, *, hint=None, identity=None, strength=0.8, window=(0.0, 1.0), mask=None):
    return apply_identity_net(positive, negative, net, drawing() if hint is None else hint, *(identity or tokens()), strength,
                              *window, mask)


def by_hand(net, positive, negative, *, hint=None, identity=None, strength=0.8, window=(0.0, 1.0), mask=None):
    """The contract's wiring, with ComfyUI's ControlNet as it is, whatever its strength."""
    hint = (drawing() if hint is None else hint).movedim(-1, 1)
    cond, uncond = identity or tokens()
    copies = {}

    def extended(entries, context, **limits):
        out = []
        for text, options in entries:
            previous = options.get("control")
            if previous not in copies:
                copies[previous] = net.copy().set_cond_hint(hint, strength, window).set_previous_controlnet(previous)
            out.append([text, {**options, "control": copies[previous], "control_apply_to_uncond": False,
                               "cross_attn_controlnet": context, **limits}])
        return out

    limits = {} if mask is None else {"mask": mask, "set_area_to_bounds": False}
    return extended(positive, cond, **limits), extended(negative, uncond)


class Calls(NamedTuple):
    hint: int         # of the hint block
    projections: int  # of each to_k and to_v
    evaluations: int  # of the whole


@contextlib.contextmanager
def counted(net):
    """A function that gives the Calls of the ControlNet's own layers since then."""
    model = net.control_model
    layers = {"hint": [layer for layer in model.input_hint_block if isinstance(layer, torch.nn.Conv2d)],
              "projections": [layer for name, layer in model.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))],
              "evaluations": [model.input_blocks[0][0]]}
    assert [len(group) for group in layers.values()] == [8, PROJECTIONS, 1]
    calls = {layer: 0 for group in layers.values() for layer in group}

    def count(layer, arguments, result):
        calls[layer] += 1

    def so_far():
        each = [{calls[layer] for layer in group} for group in layers.values()]
        assert all(len(numbers) == 1 for numbers in each)
        return Calls(*(numbers.pop() for numbers in each))

    hooks = [layer.register_forward_hook(count) for layer in calls]
    try:
        yield so_far
    finally:
        for hook in hooks:
            hook.remove()


def sampled(world, positive, negative, model=None, net=None, **settings):
    """(latents, Calls)"""
    with counted(net or world.net) as calls:
        return fx.sample(model or world.model, positive, negative, **{**STEPS, **settings}), calls()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(*pair) for side in a for pair in zip(a[side], b[side], strict=True))


def remembered(control):
    """How many results are kept for a control."""
    return sum(len(layer.results) for layer in control.control_model.modules() if isinstance(layer, MemoizedLayer))


def prompt(seed):
    """A CONDITIONING of one entry: the first tokens of the oracle's."""
    (text, options), = fx.conditioning(seed)
    return [[text[:, :PROMPT_TOKENS].contiguous(), options]]


def texts(world):
    return world.positive, world.negative


def long_negative(world):
    """A prompt so long that ComfyUI cannot run both passes as one batch."""
    return world.positive, [[world.negative[0][0].repeat(1, 5, 1), world.negative[0][1]]]


def with_control(conditionings, control):
    return [[[text, {**options, "control": control}] for text, options in entries] for entries in conditionings]


def control_of(conditionings):
    return conditionings[0][0][1]["control"]


def kept(control):
    """How many evaluations are kept for a control."""
    return sum(len(calls) for calls in control.control_model.reuse._kept.values())


@contextlib.contextmanager
def controls(model):
    """The list of (latents' shape, residuals as they were) that the UNet gets at each call."""
    seen = []

    def note(unet, arguments, named):
        residuals = named["control"]["output"] + named["control"]["middle"]
        seen.append((arguments[0].shape, [tensor.clone() for tensor in residuals]))

    hook = model.model.diffusion_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def alike(a, b):
    return a[0] == b[0] and all(torch.equal(*pair) for pair in zip(a[1], b[1], strict=True))


def step(net, number, width=8, hint=None, context=None, level=500.0, **others):
    """A call of an IdentityNet with latents of that number."""
    with torch.inference_mode():
        return net(x=randn(number, 1, 4, 8, width), hint=hint, timesteps=torch.tensor([level]), context=context,
                   **{"y": randn(52, 1, 2816), **others})
