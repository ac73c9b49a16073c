"""The identity term in one kernel: q is read once, attends to the tokens of all identities, and the sum lands in out.

An opt-in alternative to the exact sum of `terms`: the same formula with fewer roundings, so that last bits differ.
Needs Triton, a C compiler, an NVIDIA GPU since Ampere and a dtype that its matrix units know. Whether it runs is tried once
before it is used; elsewhere the exact terms run instead.
"""

import functools
import logging
from typing import NamedTuple

import cachetools
import torch

from ..host.server import tell

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SDXL_HEAD_WIDTH = 64
HEAD_WIDTHS = (16, 32, SDXL_HEAD_WIDTH)
OLDEST_CAPABILITY = (8, 0)  # for older GPUs Triton has no matrix units: it compiles for minutes, and what it makes is slow
# an identity's tokens are one tile in shared memory: 128 of them in 16 bits, which are eight photos, 64 in float32
MOST_TILE_BYTES = 256
BLOCK_ROWS = 64  # rows of q to a program
SMALLEST_DOT = 16


@functools.cache
def kernel():
    """The compiled kernel. ImportError without Triton."""
    import triton
    import triton.language as tl

    @triton.jit
    def add_identities(q_pointer, k_pointer, v_pointer, out_pointer, weight_pointer, tokens_pointer, mask_pointer,
                       rows, heads, batch, q_batch, q_row, out_batch, out_row, scale,
                       IDENTITIES: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
                       MASKED: tl.constexpr, PRECISION: tl.constexpr):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        # 64 bits: 204 latents of 2048 x 2048 have more elements than 32 bits can count
        entry, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
        column, token = tl.arange(0, WIDTH), tl.arange(0, TOKENS)
        inside = row[:, None] < rows
        q = tl.load(q_pointer + entry * q_batch + row[:, None] * q_row + head * WIDTH + column[None, :], mask=inside, other=0.0)
        total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
        for identity in tl.static_range(IDENTITIES):
            # K and V lie as [identities, batch, TOKENS, heads * WIDTH], shorter ones filled up
            place = ((identity * batch + entry) * TOKENS + token[:, None]) * heads * WIDTH + head * WIDTH + column[None, :]
            k = tl.load(k_pointer + place)
            v = tl.load(v_pointer + place)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            scores = tl.where(token[None, :] < tl.load(tokens_pointer + identity), scores, float("-inf"))
            scores = tl.exp(scores - tl.max(scores, axis=1)[:, None])
            scores = scores / tl.sum(scores, axis=1)[:, None]
            term = tl.dot(scores.to(v.dtype), v, input_precision=PRECISION) * tl.load(weight_pointer + identity)
            if MASKED:
                term *= tl.load(mask_pointer + (identity * batch + entry) * rows + row, mask=row < rows, other=0.0)[:, None]
            total += term
        place = out_pointer + entry * out_batch + row[:, None] * out_row + head * WIDTH + column[None, :]
        tl.store(place, (tl.load(place, mask=inside, other=0.0).to(tl.float32) + total).to(out_pointer.dtype.element_ty),
                 mask=inside)

    return add_identities


class Variant(NamedTuple):
    """What the kernel is compiled for. tokens: of an identity, filled up to a power of two."""
    device: torch.device
    dtype: torch.dtype
    head_width: int
    identities: int
    tokens: int
    masked: bool


_reasons = cachetools.LRUCache(64)  # Variant: why it cannot run, in words for the log, or None


def reason_not_to_run(variant):
    """Why the kernel cannot run, in words for the log; None where it can. Found out once, by launching it where in doubt."""
    if variant not in _reasons:
        _reasons[variant] = _reason_without_a_trial(variant) or _reason_of_a_trial(variant)
    return _reasons[variant]


def _reason_without_a_trial(variant):
    device, dtype, head_width, _, tokens, _ = variant
    if dtype not in DTYPES:
        return f"it does not take {dtype}"
    if head_width not in HEAD_WIDTHS:
        return f"it does not take heads {head_width} wide"
    if tokens * dtype.itemsize > MOST_TILE_BYTES:
        return f"it does not take {tokens} tokens of an identity at once: fewer photos with 'concat' would fit"
    if device.type != "cuda":
        return f"it needs a CUDA device, and this is {device.type}"
    if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        return "it needs an NVIDIA GPU of the generation Ampere or newer (RTX 30, A100)"
    return None


def _reason_of_a_trial(variant):
    """Why a launch on small tensors fails, in words for the log; None where it works.

    Compiling needs a C compiler and a Triton that knows the GPU.
    """
    device, dtype, head_width, identities, tokens, masked = variant
    try:
        out = torch.zeros(1, 1, head_width, dtype=dtype, device=device)
        keys = torch.zeros(identities, 1, tokens, head_width, dtype=dtype, device=device)
        weights = torch.zeros(identities, device=device)
        masks = torch.zeros(identities, 1, 1, device=device) if masked else None
        add_identities(out, out, keys, keys, weights, weights.to(torch.int32) + 1, masks, heads=1)
        torch.cuda.synchronize(device)
    except Exception as error:  # an installation of Triton can be broken in many ways
        return _in_words(error)
    return None


def _in_words(error):
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"Triton cannot be used ({first_line})"


def add_identities(out, q, keys, values, weights, tokens, masks, heads):
    """out += sum over identities of weight * mask * attention(q, keys, values), in place.

    out, q: [b, rows, width], rows contiguous. keys, values: [identities, b, TOKENS, width] in q's dtype, contiguous, TOKENS a
    power of two. weights: float32 [identities]. tokens: int32 [identities], how many of TOKENS count. masks: float32
    [identities, b, rows], or None.
    """
    batch, rows, width = q.shape
    head_width = width // heads
    with torch.cuda.device_of(q):  # Triton launches on the current device
        kernel()[(-(-rows // BLOCK_ROWS), batch * heads)](
            q, keys, values, out, weights, tokens, q if masks is None else masks,
            rows, heads, batch, q.stride(0), q.stride(1), out.stride(0), out.stride(1), head_width ** -0.5,
            IDENTITIES=len(keys), TOKENS=keys.shape[2], WIDTH=head_width, ROWS=BLOCK_ROWS, MASKED=masks is not None,
            # TF32 would round fp32's products to ten bits
            PRECISION="ieee" if q.dtype == torch.float32 else "tf32")


class FusedTerm:
    """What identities add at one block, in one pass. Where the kernel cannot run, what their exact terms add.

    terms: IdentityTerms. Read-only.
    """

    def __init__(self, terms):
        self.terms = tuple(terms)

    def steps(self, call):
        terms = tuple(term for term in self.terms if call.is_in(term.window))
        if not terms:
            return []
        used = "torch.compile" if call.compiled else "replay" if call.replayed else None
        reason = f"{used} is used" if used else reason_not_to_run(variant_of(terms, call, SDXL_HEAD_WIDTH))
        if reason is None:
            return [FusedStep(terms, call)]
        _tell(reason, call)
        return [step for term in terms for step in term.steps(call)]


def variant_of(terms, call, head_width):
    """The Variant that adds some terms in a UNet call."""
    tokens = max(term.identity.keys[term.projection_index].shape[1] for term in terms)
    return Variant(call.device, call.dtype, head_width, len(terms), max(SMALLEST_DOT, 1 << (tokens - 1).bit_length()),
                   any(term.mask is not None for term in terms))


class FusedStep(NamedTuple):
    """One pass of the kernel over a batch."""
    terms: tuple  # those of the fused term whose windows are open
    call: object  # UNetCall

    def __call__(self, out, may_write, q, k, v, extra_options):
        variant = variant_of(self.terms, self.call, q.shape[2] // extra_options["n_heads"])
        reason = (reason_not_to_run(variant) if q.dtype == out.dtype == self.call.dtype else
                  f"it does not take q in {q.dtype}, a sum in {out.dtype} and an identity in {self.call.dtype}")
        if reason is None:
            ours = out if may_write and out.is_contiguous() else out.clone(memory_format=torch.contiguous_format)
            try:
                self._add(ours, q, variant, extra_options)
                return ours
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of compiling or launching: the kernel has written nothing
                reason = _reasons[variant] = _in_words(error)
        _tell(reason, self.call)
        for step in (step for term in self.terms for step in term.steps(self.call)):
            out, may_write = step(out, may_write, q, k, v, extra_options), True
        return out

    def for_rows(self, rows):
        """The exact steps for a batch that another pack has enlarged."""
        for step in (step for term in self.terms for step in term.steps(self.call)):
            yield from step.for_rows(rows)

    def _add(self, out, q, variant, extra_options):
        frames = self.call.frames if any(term.identity.differs_by_latent for term in self.terms) else None
        layout = (self.terms, self.call.device, self.call.dtype, self.call.batch, self.call.chunks, frames)
        keys, values, tokens, weights = self.call.sampling_cache.get_or_make(layout, lambda: self._stack(variant.tokens))
        masks = None
        if variant.masked:
            grid = (q.shape[1], *extra_options["original_shape"][2:4])
            masks = self.call.sampling_cache.get_or_make((*layout, self.call.frames, *grid), lambda: self._stack_masks(grid))
        add_identities(out, q.contiguous(), keys, values, weights, tokens, masks, extra_options["n_heads"])

    def _stack(self, places):
        """K and V [identities, b, places, width], the shorter filled up, how many of the places count, and the weights."""
        pairs = [term.identity.laid_out(self.call)[term.projection_index] for term in self.terms]
        counts = [keys.shape[1] for keys, _ in pairs]
        keys, values = (torch.stack([torch.nn.functional.pad(side, (0, 0, 0, places - side.shape[1])) for side in sides])
                        for sides in zip(*pairs, strict=True))
        return (keys, values, torch.tensor(counts, dtype=torch.int32, device=keys.device),
                torch.tensor([term.weight for term in self.terms], device=keys.device))

    def _stack_masks(self, grid):
        """float32 [identities, b, rows]; ones where an identity has no mask."""
        everywhere = torch.ones(self.call.batch, grid[0], device=self.call.device)
        return torch.stack([everywhere if term.mask is None else term.mask.for_call(self.call)(*grid)[:, :, 0].float()
                            for term in self.terms])


def _tell(reason, call):
    """Says once in a sampling, in the log and on the node, why the exact terms run instead of the kernel."""
    def say():
        tell(f"The attention is 'exact' here instead of 'fused': {reason}.", logging.INFO)
    call.sampling_cache.get_or_make(("not fused", reason), say)


def with_fused(terms, term):
    """A patch's terms and one more, which shares a pass with the last one where that is fused too."""
    if terms and isinstance(terms[-1], FusedTerm):
        return (*terms[:-1], FusedTerm((*terms[-1].terms, term)))
    return (*terms, FusedTerm((term,)))
