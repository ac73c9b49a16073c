"""Another pack at the same attention keys, as the IPAdapter and PuLID packs behave there: written from the protocol.

An object called as (q, k, v, extra_options) with `.add(callback, **kwargs)`; whoever comes second calls `.add` on what is
there, in the clone of the model that it was given.
"""

import torch
from comfy.ldm.modules.attention import optimized_attention

KEYS = [("input", 4, 0), ("output", 1, 0), ("middle", 0, 0)]


class ForeignPatch:
    def __init__(self, callback, **kwargs):
        self.callbacks = []
        self.add(callback, **kwargs)

    def add(self, callback, **kwargs):
        self.callbacks.append((callback, kwargs))

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        for callback, kwargs in self.callbacks:
            out = out + callback(out, q, k, v, extra_options, **kwargs)
        return out


class WithoutAdd:
    """What another pack's patch may be, too: any callable."""

    def __init__(self, level):
        self.level = level

    def __call__(self, q, k, v, extra_options):
        return optimized_attention(q, k, v, extra_options["n_heads"]) + self.level


def shift(out, q, k, v, extra_options, level, sigma_start=999999999.9, sigma_end=0.0):
    return torch.full_like(out, level)


def apply_foreign(model, level):
    """The other pack's node: a clone of the model with one more term at each of KEYS."""
    model = model.clone()
    options = model.model_options["transformer_options"].copy()
    options["patches_replace"] = options.get("patches_replace", {}).copy()
    patches = options["patches_replace"]["attn2"] = options["patches_replace"].get("attn2", {}).copy()
    for key in KEYS:
        if key in patches:
            patches[key].add(shift, level=level, sigma_start=999999999.9, sigma_end=0.0)
        else:
            patches[key] = ForeignPatch(shift, level=level)
    model.model_options["transformer_options"] = options
    return model
