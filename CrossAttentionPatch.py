"""The patch at each of SDXL's cross-attention blocks, by which the model attends to identity tokens.

A patched block computes  attention(q, k, v) + weight * mask * attention(q, K, V)  with K and V an identity's.
ComfyUI looks patches up by `(section, id, index)` in transformer_options["patches_replace"]["attn2"]. The keys are shared
with other packs (IPAdapter, PuLID), whose protocol `AttentionPatch` follows: callable as (q, k, v, extra_options), with
`.add(callback, **kwargs)`.
"""

import copy

import torch
import xxhash

from . import performance
from .identity import terms
from .identity.bank import COND, with_tokens_for_each_latent
from .identity.blocks import SDXL_BLOCKS
from .identity.masks import LatentMask, with_a_mask_for_each_latent
from .resampler import CONTEXT_WIDTH
from .utils import InstantIDError

KEY = "instantid_swift"        # of our callbacks, wrappers and options in a model
SAMPLING_CACHE_KEY = f"{KEY}_sampling_cache"  # in a sampler's options: the cache that its UNet calls share
POSITIVE_KEY = f"{KEY}_positive"         # in transformer_options: the numbers of the positive pass, where it is not 0
COMPILE_KEY = "torch.compile"  # of the wrapper that ComfyUI's TorchCompileModel node leaves in a model


def check_model(model, widths):
    """Refuses a model whose attention would crash on the identity tokens, or never see them.

    model: ComfyUI's ModelPatcher. widths: of the adapter's 70 pairs. Modules of other packs without known widths are accepted.
    """
    unet = getattr(model.model, "diffusion_model", None)
    name = type(getattr(model.model, "model_config", model.model)).__name__
    advice = "InstantID works with SDXL checkpoints only: connect one to the model input."
    patchable = 0
    for block, width in zip(SDXL_BLOCKS, widths, strict=True):
        transformer = _transformer_block(unet, block)
        if transformer is None:  # distilled relatives of SDXL (SSD-1B) lack some blocks
            continue
        patchable += 1
        attention = getattr(transformer, "attn2", None)
        heads, head_width = (getattr(attention, name, None) for name in ("heads", "dim_head"))
        inner = heads * head_width if isinstance(heads, int) and isinstance(head_width, int) else None
        context = getattr(getattr(attention, "to_k", None), "in_features", None)
        for what, found, wanted in (("is", inner, width), ("reads a context", context, CONTEXT_WIDTH)):
            if found not in (None, wanted):
                raise InstantIDError(f"The model is {name}, whose cross-attention in {block.section} block {block.id} {what} "
                                     f"{found} wide where the InstantID adapter needs {wanted}. {advice}")
    if not patchable:
        raise InstantIDError(f"The model is {name}, which has none of SDXL's cross-attention blocks. {advice}")


def _transformer_block(unet, block):
    """Returns the module whose cross-attention is patched, or None where the model has none."""
    try:
        layers = unet.middle_block if block.section == "middle" else getattr(unet, f"{block.section}_blocks")[block.id]
        return next(layer for layer in layers if hasattr(layer, "transformer_blocks")).transformer_blocks[block.index]
    except (AttributeError, IndexError, StopIteration, TypeError):
        return None


class AttentionPatch:
    """The patch at one attention key: the block's own attention or another pack's patch, and terms that are added to it.

    A copy has its own tuple of terms and shares everything else, so that copying costs nothing.
    """

    def __init__(self, base=None, terms=()):
        self.base = base
        self.terms = tuple(terms)

    def __call__(self, q, k, v, extra_options):
        """Returns the block's attention with all terms, in q's shape and dtype: [b, tokens, width]."""
        out = terms.unpatched_attention(q, k, v, extra_options) if self.base is None else self.base(q, k, v, extra_options)
        # a pack that has computed `out` may keep it: another pack below, or one that replaces ComfyUI's attention
        may_write = self.base is None and not extra_options.get("optimized_attention_override")
        for step in self._prepared_steps(q, extra_options):
            out = step(out, may_write, q, k, v, extra_options)
            may_write = True
        return out.to(q.dtype)

    def _prepared_steps(self, q, extra_options):
        batch = extra_options.get("original_shape", q.shape)[0]
        steps = extra_options.get(KEY, {}).get((*extra_options.get("block", ()), extra_options.get("block_index")))
        if steps is None:  # called outside of ComfyUI's own sampling, where `prepare_call` has not run
            sampling_cache = extra_options.get(SAMPLING_CACHE_KEY)
            steps = self.steps(terms.UNetCall.from_options(q, extra_options, count=batch, sampling_cache=sampling_cache))
        if len(q) == batch:
            return steps
        rows = terms.rows_in_enlarged_batch(len(q), extra_options)
        return tuple(again for step in steps for again in step.for_rows(rows))

    def steps(self, call):
        """Returns the steps of all terms for a UNet call."""
        return tuple(step for term in self.terms for step in term.steps(call))

    def add(self, callback, **kwargs):
        """Adds a term as IPAdapter and PuLID do: callback(out, q, k, v, extra_options, **kwargs) returns it, and is called
        while kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]."""
        self.terms += (terms.ForeignTerm(callback, kwargs),)

    def models(self):
        """Returns the models that ComfyUI loads with the patched one: those of the patch below."""
        return self.base.models() if hasattr(self.base, "models") else []

    def to(self, device_or_dtype):
        """Returns the patch with the one below moved, if that can be moved. This patch itself holds nothing on a device."""
        return AttentionPatch(self.base.to(device_or_dtype), self.terms) if hasattr(self.base, "to") else self

    def __copy__(self):
        return AttentionPatch(self.base, self.terms)

    def __deepcopy__(self, memo):
        # versions of ComfyUI that deep-copy a model's options copy a foreign base as they would have without us
        return AttentionPatch(copy.deepcopy(self.base, memo), self.terms)


def prepare_call(executor, x, sigma, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """ComfyUI wrapper around each UNet call: makes the steps of all blocks' patches once."""
    options = dict(transformer_options or {})
    sampling_cache = options.pop(SAMPLING_CACHE_KEY, None)
    positive = options.pop(POSITIVE_KEY, (COND,))
    patches = options.get("patches_replace", {}).get("attn2", {})
    compiled = COMPILE_KEY in options.get("wrappers", {}).get("apply_model", {}) or _has_compiled_parts(
        executor.class_obj, sampling_cache)
    call = terms.UNetCall.from_options(x, {"sigmas": sigma, **options}, terms.attention_dtype(executor.class_obj),
                                       positive=positive, compiled=compiled, sampling_cache=sampling_cache)
    options[KEY] = {key: patch.steps(call) for key, patch in patches.items() if isinstance(patch, AttentionPatch)}
    if compiled:
        kwargs[KEY] = structure_hash(options[KEY], patches)
    with performance.stage("run the model", gpu=True):
        return executor(x, sigma, c_concat, c_crossattn, control, options, **kwargs)


def _has_compiled_parts(model, sampling_cache):
    """Returns whether nodes of other packs have compiled a model (ComfyUI's BaseModel); looked up once in a sampling."""
    unet = model.diffusion_model
    return (terms.is_compiled(unet) if sampling_cache is None
            else sampling_cache.get_or_make("compiled", lambda: terms.is_compiled(unet)))


def open_sampling_cache(executor, *args, **kwargs):
    """ComfyUI wrapper around a whole sampling: makes the cache that its UNet calls share."""
    guider = executor.class_obj
    latents = args[0].shape[0]
    guider.conds = with_tokens_for_each_latent(with_a_mask_for_each_latent(guider.conds, latents), latents)
    positive = {cond.get("uuid") for cond in guider.conds.get("positive") or ()}
    # the sampler has its own copy of the options
    guider.model_options["transformer_options"][SAMPLING_CACHE_KEY] = terms.SamplingCache(positive)
    return executor(*args, **kwargs)


def find_positive(executor, model, conds, x, timestep, model_options):
    """ComfyUI wrapper around an evaluation of conds: finds the positive pass among three or more.

    ComfyUI numbers them as its guider orders them: DualCFGGuider's positive one is 2, PerpNegGuider's 0. The original knows the
    numbers 0 and 1 only, so that up to two conds keep their meaning: 0 is the positive pass, whatever it is.
    """
    options = model_options.get("transformer_options", {})
    if len(conds) > 2 and SAMPLING_CACHE_KEY in options:
        # the first, because ComfyUI appends those of other passes that have an area
        positive = tuple(number for number, entries in enumerate(conds)
                         if entries and entries[0].get("uuid") in options[SAMPLING_CACHE_KEY].positive)
        if positive:
            model_options = {**model_options, "transformer_options": {**options, POSITIVE_KEY: positive}}
    return executor(model, conds, x, timestep, model_options)


def structure_hash(steps, patches):
    """Returns a hash of the patches' structure. torch.compile recompiles when it changes.

    ComfyUI since 2026 compiles without guards on transformer_options: a graph made for one set of patches would be used for
    any other. The hash reaches the UNet as an argument of its own, which is guarded. Tensors, and with them identity and
    weight, are inputs of the graph and not part of it.
    """
    def constant(part):
        if isinstance(part, torch.Tensor):
            return part.shape, part.dtype, part.device
        if isinstance(part, tuple | list):
            return [type(part).__name__, *map(constant, part)]
        if isinstance(part, dict):
            return [(key, constant(value)) for key, value in part.items()]
        return part if isinstance(part, int | float | str) else type(part).__name__

    parts = [(key, type(patch).__name__, constant(steps.get(key, ()))) for key, patch in patches.items()]
    return xxhash.xxh3_128_hexdigest(repr(parts).encode())


def guard_structure(executor, *args, **kwargs):
    """ComfyUI wrapper inside of a compiled UNet: reads the hash, so that torch.compile guards it."""
    len(kwargs.pop(KEY, ""))
    return executor(*args, **kwargs)


def separate_patches(model, clone):
    """ComfyUI callback on clone(): gives the clone patches of its own.

    clone() shares objects since February 2026. A pack that calls `.add` on a patch in its clone would otherwise change the
    model that ComfyUI keeps, and add one more term at every run.
    """
    patches = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for key, patch in patches.items():
        if isinstance(patch, AttentionPatch):
            patches[key] = copy.copy(patch)


def patch_model(model, identity, weight, start_at, end_at, mask=None, *, factors):
    """Returns a clone of a model in which blocks attend to an identity; the model itself is not changed.

    model: ComfyUI's ModelPatcher. start_at, end_at: the part of the run, 0..1. mask: MASK or None. factors: {block: factor of
    the weight}, as `factors_of_blocks` gives it; other blocks are left alone. InstantIDError if it is not an SDXL model.
    """
    from comfy.patcher_extension import CallbacksMP
    check_model(model, [keys.shape[-1] for keys in identity.keys])
    mask = None if mask is None else LatentMask(mask)
    model = model.clone()
    sampling = model.get_model_object("model_sampling")
    window = terms.Window(float(sampling.percent_to_sigma(start_at)), float(sampling.percent_to_sigma(end_at)))
    options = model.model_options["transformer_options"]
    patches = dict(options.get("patches_replace", {}).get("attn2", {}))
    for block, factor in factors.items():
        key = tuple(block)
        # a patch may stand for all transformer blocks of (section, id); ours, being more exact, would hide it
        found = patches.get(key, patches.get(key[:2]))
        patches[key] = copy.copy(found) if isinstance(found, AttentionPatch) else AttentionPatch(base=found)
        term = terms.IdentityTerm(identity, SDXL_BLOCKS.index(block), weight * factor, window, mask)
        patches[key].terms += (term,)
    options["patches_replace"] = {**options.get("patches_replace", {}), "attn2": patches}
    model.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    model.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, separate_patches)
    install_wrappers(model)
    return model


def install_wrappers(model):
    """Puts the wrappers that patches need into a cloned model, once each."""
    from comfy.patcher_extension import WrappersMP
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, open_sampling_cache), (WrappersMP.CALC_COND_BATCH, find_positive),
                          (WrappersMP.APPLY_MODEL, prepare_call), (WrappersMP.DIFFUSION_MODEL, guard_structure)):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
