"""Where identity tokens meet attention: the table of SDXL's cross-attention blocks and the patch that stands at each.

A patched block computes  attention(q, k, v) + weight * mask * attention(q, K, V)  with K and V an identity's.
ComfyUI looks patches up by `(section, id, index)` in transformer_options["patches_replace"]["attn2"]. The keys are shared
with other packs (IPAdapter, PuLID), whose protocol `AttentionPatch` speaks: callable as (q, k, v, extra_options), with
`.add(callback, **kwargs)`.
"""

import copy
import inspect
from typing import NamedTuple

import torch

from .resampler import CONTEXT_WIDTH

try:
    from comfy.ldm.modules import attention as comfy_attention
except ImportError:  # the arithmetic works, and is tested, without ComfyUI
    comfy_attention = None

KEY = "instantid_swift"  # of our callbacks, wrappers and options in a model
BEFORE_ANY_STEP = 999999999.9  # ComfyUI's percent_to_sigma(0)


class Block(NamedTuple):
    """One of SDXL's cross-attention blocks, as ComfyUI announces it."""
    section: str  # "input", "output" or "middle"
    id: int       # of the section's block
    index: int    # of the transformer block in it


# (section, id, transformer blocks) in the order of the adapter's pairs of weights: 70 blocks in all
_LAYOUT = (("input", 4, 2), ("input", 5, 2), ("input", 7, 10), ("input", 8, 10),
           ("output", 0, 10), ("output", 1, 10), ("output", 2, 10), ("output", 3, 2), ("output", 4, 2), ("output", 5, 2),
           ("middle", 0, 10))
SDXL_BLOCKS = tuple(Block(section, number, index) for section, number, depth in _LAYOUT for index in range(depth))

# named selections; "as original" is what two years of pictures from the Apply nodes were made with: the original
# registered the middle blocks under a key that is never looked up
SELECTIONS = {
    "as original": frozenset(block for block in SDXL_BLOCKS if block.section != "middle"),
    "all 70": frozenset(SDXL_BLOCKS),
}


class ModelError(ValueError):
    """The model is not one that this adapter works with; the message says what was found."""


def check_model(model, widths):
    """Refuses a model whose attention would crash on the identity tokens, or never see them.

    model: ComfyUI's ModelPatcher. widths: of the adapter's 70 pairs.
    """
    unet = getattr(model.model, "diffusion_model", None)
    name = type(getattr(model.model, "model_config", model.model)).__name__
    advice = "InstantID works with SDXL checkpoints only: connect one to the model input."
    patchable = 0
    for block, width in zip(SDXL_BLOCKS, widths, strict=True):
        attention = _cross_attention(unet, block)
        if attention is None:  # distilled relatives of SDXL (SSD-1B) lack some blocks
            continue
        patchable += 1
        for what, found, wanted in (("is", attention.heads * attention.dim_head, width),
                                    ("reads a context", attention.to_k.in_features, CONTEXT_WIDTH)):
            if found != wanted:
                raise ModelError(f"The model is {name}, whose cross-attention in {block.section} block {block.id} {what} "
                                 f"{found} wide where the InstantID adapter needs {wanted}. {advice}")
    if not patchable:
        raise ModelError(f"The model is {name}, which has none of SDXL's cross-attention blocks. {advice}")


def _cross_attention(unet, block):
    """The CrossAttention module of a block, or None where a UNet (or what is not one) has none there."""
    try:
        layers = unet.middle_block if block.section == "middle" else getattr(unet, f"{block.section}_blocks")[block.id]
        return next(layer for layer in layers if hasattr(layer, "transformer_blocks")).transformer_blocks[block.index].attn2
    except (AttributeError, IndexError, StopIteration, TypeError):
        return None


class Window(NamedTuple):
    """The noise levels at which a term applies: end <= sigma <= start."""
    start: float
    end: float

    @property
    def is_always(self):
        """Whether it covers every run, so that no noise level need be read from the device."""
        return self.start >= BEFORE_ANY_STEP and self.end <= 0.0

    def contains(self, sigma):
        return self.end <= sigma <= self.start

    def is_open(self, extra_options):
        if self.is_always:
            return True
        sigma = extra_options.get(KEY)
        if sigma is None:  # called outside of ComfyUI's own sampling, where `read_sigma_once` has not run
            sigmas = extra_options.get("sigmas")
            sigma = BEFORE_ANY_STEP if sigmas is None else sigmas[0].item()
        return self.contains(sigma)


def read_sigma_once(executor, x, sigma, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """ComfyUI wrapper around a UNet call: reads the noise level from the device once, for all blocks and windows."""
    transformer_options = {**(transformer_options or {}), KEY: sigma[0].item()}
    return executor(x, sigma, c_concat, c_crossattn, control, transformer_options, **kwargs)


def attention(q, k, v, heads, **options):
    """ComfyUI's attention, as it is configured: [b, tokens, width] each, returns the same for q's tokens."""
    if comfy_attention is not None:
        return comfy_attention.optimized_attention(q, k, v, heads, **options)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


# older versions of ComfyUI cannot be told the options through which other packs choose another attention
_TAKES_OPTIONS = comfy_attention is not None and any(
    p.kind is p.VAR_KEYWORD for p in inspect.signature(comfy_attention.optimized_attention).parameters.values())


def _own_attention(q, k, v, extra_options):
    """What the block computes without any patch."""
    options = {"transformer_options": extra_options} if _TAKES_OPTIONS else {}
    return attention(q, k, v, extra_options["n_heads"], **options)


class IdentityTerm(NamedTuple):
    """What one identity adds at one block."""
    identity: object  # Identity
    pair: int         # of the adapter's weights, whose K and V belong to the block
    weight: float
    window: Window
    mask: object      # LatentMask or None

    def __call__(self, out, q, k, v, extra_options):
        """out + the term, or out itself outside of the window. q: [b, tokens, width]."""
        if not self.window.is_open(extra_options):
            return out
        chunks = extra_options["cond_or_uncond"]
        keys, values = self.identity.keys_values(self.pair, q, chunks)
        term = attention(q, keys, values, extra_options["n_heads"])
        weight = self.weight
        if self.mask is not None:
            weight = weight * self.mask.on_grid(q, len(chunks), extra_options)
        return out + weight * term


class ForeignTerm(NamedTuple):
    """A callback that another pack added to our patch."""
    callback: object
    kwargs: dict

    def __call__(self, out, q, k, v, extra_options):
        window = Window(self.kwargs.get("sigma_start", BEFORE_ANY_STEP), self.kwargs.get("sigma_end", 0.0))
        if not window.is_open(extra_options):
            return out
        return out + self.callback(out, q, k, v, extra_options, **self.kwargs)


class AttentionPatch:
    """What stands at one attention key: the block's own attention, or what another pack put there, and terms on top.

    Copies are independent of each other and share everything else, so that copying costs nothing.
    """

    def __init__(self, base=None, terms=()):
        self.base = base
        self.terms = tuple(terms)

    def __call__(self, q, k, v, extra_options):
        out = (self.base or _own_attention)(q, k, v, extra_options)
        for term in self.terms:
            out = term(out, q, k, v, extra_options)
        return out.to(q.dtype)

    def add(self, callback, **kwargs):
        """The protocol of IPAdapter and PuLID: callback(out, q, k, v, extra_options, **kwargs) returns a term to add,
        while kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]."""
        self.terms += (ForeignTerm(callback, kwargs),)

    def __copy__(self):
        return AttentionPatch(self.base, self.terms)

    def __deepcopy__(self, memo):
        # versions of ComfyUI that deep-copy a model's options copy a foreign base as they would have without us
        return AttentionPatch(copy.deepcopy(self.base, memo), self.terms)


def separate_patches(model, clone):
    """ComfyUI callback on clone(): gives the clone patches of its own.

    clone() shares objects since February 2026. Whoever calls `.add` on what it finds in its clone would otherwise change
    the model that ComfyUI keeps, and add one more term at every run.
    """
    patches = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for key, patch in patches.items():
        if isinstance(patch, AttentionPatch):
            patches[key] = copy.copy(patch)


def patch_model(model, identity, weight, start_at, end_at, mask=None, blocks=SELECTIONS["all 70"]):
    """A clone of a model in which the given blocks attend to an identity; the model itself is not changed.

    model: ComfyUI's ModelPatcher. start_at, end_at: the part of the run, 0..1. mask: LatentMask or None.
    """
    from comfy.patcher_extension import CallbacksMP, WrappersMP
    model = model.clone()
    sampling = model.get_model_object("model_sampling")
    window = Window(float(sampling.percent_to_sigma(start_at)), float(sampling.percent_to_sigma(end_at)))
    options = model.model_options["transformer_options"]
    patches = dict(options.get("patches_replace", {}).get("attn2", {}))
    for pair, block in enumerate(SDXL_BLOCKS):
        if block in blocks:
            # a patch may stand for all transformer blocks of (section, id); ours, being more exact, would hide it
            found = patches.get(tuple(block), patches.get(block[:2]))
            ours = copy.copy(found) if isinstance(found, AttentionPatch) else AttentionPatch(base=found)
            ours.terms += (IdentityTerm(identity, pair, weight, window, mask),)
            patches[tuple(block)] = ours
    options["patches_replace"] = {**options.get("patches_replace", {}), "attn2": patches}
    model.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    model.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, separate_patches)
    if not window.is_always:
        model.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, read_sigma_once)
    return model
