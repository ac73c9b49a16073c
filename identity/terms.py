"""What is added at an attention block, and what of it a UNet call needs.

A *term* is what a user asked for: an identity at a weight, in a window of the sampling, under a mask. A *step* is what is
left of it for one UNet call: K and V laid out for the batch, windows decided. Steps are made once per call for all blocks,
outside of what torch.compile sees; running them reads nothing from the device.
"""

from typing import NamedTuple

import torch

from ..caches import RecentCache
from .attention import attention
from .bank import COND
from .masks import LatentMask

BEFORE_ANY_STEP = 999999999.9  # ComfyUI's percent_to_sigma(0)
MOST_ENTRIES = 1024           # layouts and grids; fused, each of 70 blocks has its own


class SamplingCache(RecentCache):
    """What the UNet calls of one sampling share on the device: K and V laid out for a batch, masks at each resolution.

    It is made when the sampling begins and goes when the sampling ends.
    """

    def __init__(self):
        super().__init__(MOST_ENTRIES)


class Window(NamedTuple):
    """The noise levels at which a term applies: end <= sigma <= start."""
    start: float
    end: float

    @property
    def is_always(self):
        """Whether it covers every run, so that no noise level need be read from the device."""
        return self.start >= BEFORE_ANY_STEP and self.end <= 0.0


class UNetCall:
    """What terms need to know of one UNet call.

    device, dtype: of the attention's tensors. chunks: cond_or_uncond, of which each entry is an equal part of the batch.
    frames: the latents' numbers in a chunk. compiled, replayed: whether torch.compile or a CUDA graph will see the steps, which
    would take numbers for constants. sampling_cache: the `SamplingCache` of the sampling that the call belongs to.
    """

    def __init__(self, sigmas, device, dtype, batch, chunks, sub_idxs=None, compiled=False, replayed=False,
                 sampling_cache=None):
        self.device = device
        self.dtype = dtype
        self.batch = batch
        self.chunks = tuple(chunks)
        self.frames = tuple(range(batch // len(chunks)) if sub_idxs is None else (int(i) for i in sub_idxs))
        self.compiled = compiled
        self.replayed = replayed
        self.sampling_cache = SamplingCache() if sampling_cache is None else sampling_cache
        self._sigmas = sigmas
        self._sigma = None

    @classmethod
    def of(cls, batch, options, dtype=None, **more):
        """The call of a batch (a tensor on its device) with ComfyUI's transformer_options. dtype: default: the batch's."""
        sub_idxs = (options.get("ad_params") or {}).get("sub_idxs")
        return cls(options.get("sigmas"), batch.device, dtype or batch.dtype, len(batch),
                   options.get("cond_or_uncond", (COND,)), sub_idxs, **more)

    def scalar(self, value):
        """The number itself, or a tensor without dimensions where it must not become a constant."""
        if self.replayed:  # in float32, in which PyTorch multiplies 16-bit tensors by numbers
            return self.sampling_cache.get_or_make((value, self.device), lambda: torch.full((), value, device=self.device))
        return torch.tensor(value) if self.compiled else value

    def is_in(self, window):
        """Whether a window is open. Reads the noise level from the device at most once, and only if it matters."""
        if window.is_always:
            return True
        if self._sigma is None:
            self._sigma = BEFORE_ANY_STEP if self._sigmas is None else self._sigmas[0].item()
        return window.end <= self._sigma <= window.start


def add(out, term, may_write):
    """out + term; into out itself where that is ours to change, and the same dtype keeps the sum's bits."""
    if may_write and out.dtype == term.dtype and not (out.requires_grad or term.requires_grad):
        return out.add_(term)
    return out + term


class IdentityTerm(NamedTuple):
    """What one identity adds at one block."""
    identity: object  # Identity
    projection_index: int  # of the adapter's weights, whose K and V belong to the block
    weight: float
    window: Window
    mask: LatentMask | None

    def steps(self, call):
        """What one UNet call runs: an IdentityStep, or nothing outside of the window."""
        if not call.is_in(self.window):
            return
        keys, values = self.identity.laid_out(call)[self.projection_index]
        yield IdentityStep(keys, values, call.scalar(self.weight), None if self.mask is None else self.mask.for_call(call))


class IdentityStep(NamedTuple):
    """weight * mask * attention(q, keys, values): K and V [b, identity tokens, width], on q's device."""
    keys: torch.Tensor
    values: torch.Tensor
    weight: object  # float, or a tensor without dimensions
    mask: object    # None, or a function of (tokens, latent height, latent width) to weights [b, tokens, 1]

    def __call__(self, out, may_write, q, k, v, extra_options):
        term = attention(q, self.keys.to(q.dtype), self.values.to(q.dtype), extra_options["n_heads"])
        if self.mask is not None:
            term = self.weight * self.mask(q.shape[1], *extra_options["original_shape"][2:4]) * term
        elif term.requires_grad:
            term = self.weight * term
        elif isinstance(self.weight, torch.Tensor) and self.weight.device == term.device:
            # rounded once, as with a number; without float() the weight would be rounded to the term's 16 bits first
            term = (self.weight * term.float()).to(term.dtype)
        else:
            term = term.mul_(self.weight)
        return add(out, term, may_write)


class ForeignTerm(NamedTuple):
    """A callback that another pack added to our patch."""
    callback: object
    kwargs: dict

    def steps(self, call):
        if call.is_in(Window(self.kwargs.get("sigma_start", BEFORE_ANY_STEP), self.kwargs.get("sigma_end", 0.0))):
            yield ForeignStep(self.callback, self.kwargs)


class ForeignStep(NamedTuple):
    """callback(out, q, k, v, extra_options, **kwargs) gives the term. It has seen out, so out is left as it is."""
    callback: object
    kwargs: dict

    def __call__(self, out, may_write, q, k, v, extra_options):
        return out + self.callback(out, q, k, v, extra_options, **self.kwargs)
