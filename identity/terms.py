"""The terms that are added at an attention block, and their steps.

A term holds the settings of one Apply node: an identity, its weight, window and mask. A step holds what one UNet call computes
for it: K and V laid out for the batch, the masks chosen. Steps are made once per call for all blocks, outside of what
torch.compile sees; running them reads nothing from the device.
"""

import inspect
from typing import NamedTuple

import einops
import torch

from ..caches import RecentCache
from .bank import COND, UNCOND, rows_of
from .masks import LatentMask

try:
    from comfy.ldm.modules import attention as comfy_attention
except ImportError:
    comfy_attention = None


def attention(q, k, v, heads, **options):
    """Attention of q [b, tokens, width] over k and v [b, keys, width]. Returns a new tensor of q's shape."""
    if comfy_attention is not None:
        return comfy_attention.optimized_attention(q, k, v, heads, **options)
    q, k, v = (einops.rearrange(t, "b tokens (heads width) -> b heads tokens width", heads=heads) for t in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return einops.rearrange(out, "b heads tokens width -> b tokens (heads width)")


# older versions of ComfyUI take no options, by which other packs choose another attention
_TAKES_OPTIONS = comfy_attention is not None and any(
    p.kind is p.VAR_KEYWORD for p in inspect.signature(comfy_attention.optimized_attention).parameters.values())


def unpatched_attention(q, k, v, extra_options):
    """Returns the attention of a block without patches, by the function that another pack may have chosen."""
    options = {"transformer_options": extra_options} if _TAKES_OPTIONS else {}
    return attention(q, k, v, extra_options["n_heads"], **options)


def attention_dtype(model):
    """Returns the dtype in which a model (ComfyUI's BaseModel) runs its attention."""
    dtype = model.manual_cast_dtype or model.get_dtype()
    if dtype in (torch.float32, torch.float16, torch.bfloat16):
        return dtype
    import comfy.model_management
    return torch.float16 if comfy.model_management.should_use_fp16() else torch.float32


def is_compiled(module):
    """Returns whether torch.compile has been put around a module or any part of it. Looks at all parts: about a millisecond
    for SDXL."""
    return any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in module.modules())


BEFORE_ANY_STEP = 999999999.9  # ComfyUI's percent_to_sigma(0)
MOST_ENTRIES = 1024           # layouts and grids


class SamplingCache(RecentCache):
    """The cache that the UNet calls of one sampling share: K and V laid out for a batch, masks at each resolution.

    It lies on the device and lives as long as the sampling. positive: the ids that ComfyUI has given to the conds
    of the positive pass.
    """

    def __init__(self, positive=frozenset()):
        super().__init__(MOST_ENTRIES)
        self.positive = frozenset(positive)


class Window(NamedTuple):
    """The noise levels at which a term applies: end <= sigma <= start."""
    start: float
    end: float


class UNetCall:
    """The data of one UNet call from which terms make their steps.

    device, dtype: of the attention's tensors. chunks: cond_or_uncond, of which each entry is an equal part of the batch.
    frames: the latents' numbers in a chunk. compiled: torch.compile will see the steps and would take numbers for constants.
    sampling_cache: the `SamplingCache` of the sampling that the call belongs to.
    """

    def __init__(self, sigmas, device, dtype, batch, chunks, sub_idxs=None, compiled=False, sampling_cache=None):
        self.device = device
        self.dtype = dtype
        self.batch = batch
        self.chunks = tuple(chunks)
        self.frames = tuple(range(batch // len(chunks)) if sub_idxs is None else (int(i) for i in sub_idxs))
        self.compiled = compiled
        self.sampling_cache = SamplingCache() if sampling_cache is None else sampling_cache
        self._sigmas = sigmas
        self._sigma = None

    @classmethod
    def from_options(cls, batch, options, dtype=None, count=None, positive=(COND,), **more):
        """Returns the call of a batch, a tensor on its device, with ComfyUI's transformer_options.

        dtype, count: of the attention's tensors and of the call's entries; default: the batch's. positive: the numbers of the
        conds that are the positive pass.
        """
        chunks = [COND if number in positive else UNCOND for number in options.get("cond_or_uncond", (COND,))]
        return cls(options.get("sigmas"), batch.device, dtype or batch.dtype, len(batch) if count is None else count, chunks,
                   frames_of(options), **more)

    def scalar(self, value):
        """Returns the number itself, or a tensor without dimensions where it must not become a constant."""
        return torch.tensor(value) if self.compiled else value

    def window_is_open(self, window):
        """Returns whether a window is open. Reads the noise level from the device at most once, and only if it matters."""
        if window.start >= BEFORE_ANY_STEP and window.end <= 0.0:
            return True
        if self._sigma is None:
            self._sigma = BEFORE_ANY_STEP if self._sigmas is None else self._sigmas[0].item()
        return window.end <= self._sigma <= window.start


def frames_of(options):
    """Returns the numbers of the latents in a UNet call that has some of them, by ComfyUI's transformer_options; else None.

    AnimateDiff's sliding windows give the numbers. ComfyUI's own context windows give an object with the numbers, before which
    that of an earlier frame may stand.
    """
    window, numbers = options.get("context_window"), (options.get("ad_params") or {}).get("sub_idxs")
    if numbers is not None or window is None or window.dim != 0:
        return numbers
    before = getattr(window, "causal_anchor_index", None)
    return [*([] if before is None else [before]), *window.index_list]


# what Attention Couple packs leave at a block: one number for each equal part of the batch that they have enlarged
COUPLED_CHUNKS = ("cond_or_uncond_couple", "cond_or_uncond_hook_couple")


def rows_in_enlarged_batch(count, options):
    """Returns, for each of the `count` entries of an enlarged batch, the number of the UNet call's entry that it repeats.

    Packs such as Attention Couple repeat q for each region of the picture. Where such a pack does not name the parts, the
    batch is divided as by the original: into equal parts, one for each chunk. Where that leaves a rest, at which the original
    fails, the repeated entries are taken for those of the positive pass.

    options: what ComfyUI hands to a block, with cond_or_uncond and original_shape.
    """
    chunks, batch = options.get("cond_or_uncond", (COND,)), options["original_shape"][0]
    per_chunk = batch // len(chunks)
    coupled = next((options[key] for key in COUPLED_CHUNKS if options.get(key)), ())
    if coupled and count == len(coupled) * per_chunk and set(coupled) <= set(chunks):
        parts = [(chunks.index(number), per_chunk) for number in coupled]
    elif count % len(chunks) == 0:
        parts = [(chunk, count // len(chunks)) for chunk in range(len(chunks))]
    else:
        positive = chunks.count(COND)
        more, rest = divmod(count - batch, positive * per_chunk) if positive else (0, 1)
        if rest or more < 0:
            raise ValueError(f"Another node pack gives the attention {count} entries where the sampling has {batch}, and "
                             "InstantID cannot tell which of them belong to the person. Remove that pack's node or "
                             "InstantID's.")
        parts = [(index, per_chunk * (1 + more if number == COND else 1)) for index, number in enumerate(chunks)]
    return [chunk * per_chunk + entry % per_chunk for chunk, entries in parts for entry in range(entries)]


def add(out, term, may_write):
    """Returns out + term; it is written into out where that is allowed and gives the same bits."""
    if may_write and out.dtype == term.dtype and not (out.requires_grad or term.requires_grad):
        return out.add_(term)
    return out + term


class IdentityTerm(NamedTuple):
    """The contribution of one identity at one block."""
    identity: object  # Identity
    projection_index: int  # of the adapter's pair of projections for the block
    weight: float
    window: Window
    mask: LatentMask | None

    def steps(self, call):
        """Yields the IdentityStep of one UNet call, or nothing outside of the window."""
        if not call.window_is_open(self.window):
            return
        keys, values = self.identity.keys_and_values(call)[self.projection_index]
        yield IdentityStep(keys, values, call.scalar(self.weight), None if self.mask is None else self.mask.for_call(call))


class IdentityStep(NamedTuple):
    """weight * mask * attention(q, keys, values): K and V [b, identity tokens, width], on q's device."""
    keys: torch.Tensor
    values: torch.Tensor
    weight: object  # float, or a tensor without dimensions
    mask: object    # masks.CallMask, or None

    def __call__(self, out, may_write, q, k, v, extra_options):
        term = self._weighted(attention(q, self.keys.to(q.dtype), self.values.to(q.dtype), extra_options["n_heads"]))
        if self.mask is not None:
            # the product is as precise as a float32 mask; the sum stays in q's dtype
            term = (term * self.mask(q.shape[1], *extra_options["original_shape"][2:4])).to(q.dtype)
        return add(out, term, may_write)

    def _weighted(self, term):
        """Returns weight * term in the term's dtype, in which it is rounded before a mask is multiplied."""
        if term.requires_grad:
            return self.weight * term
        return term.mul_(self.weight)

    def for_rows(self, rows):
        """Yields the step for a batch that repeats the UNet call's entries, as `rows_in_enlarged_batch` numbers them."""
        yield self._replace(keys=rows_of(self.keys, rows), values=rows_of(self.values, rows),
                            mask=None if self.mask is None else self.mask.for_rows(rows))


class ForeignTerm(NamedTuple):
    """A callback that another pack added to our patch."""
    callback: object
    kwargs: dict

    def steps(self, call):
        if call.window_is_open(Window(self.kwargs.get("sigma_start", BEFORE_ANY_STEP), self.kwargs.get("sigma_end", 0.0))):
            yield ForeignStep(self.callback, self.kwargs)


class ForeignStep(NamedTuple):
    """The sum of out and callback(out, q, k, v, extra_options, **kwargs), which may keep out: it is not changed."""
    callback: object
    kwargs: dict

    def __call__(self, out, may_write, q, k, v, extra_options):
        return out + self.callback(out, q, k, v, extra_options, **self.kwargs)

    def for_rows(self, rows):
        """Yields the same step: the callback reads the batch itself."""
        yield self
