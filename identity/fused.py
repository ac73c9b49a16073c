"""The identity term in one kernel: q is read once, attends to the tokens of all identities, and the sum lands in out.

An opt-in alternative to the exact sum of `terms`: the same formula with fewer roundings, so that last bits differ.
Needs Triton, a CUDA device and a dtype that its matrix units know; elsewhere the exact terms run instead.
"""

import functools
import logging
from typing import NamedTuple

import torch

log = logging.getLogger(__name__)

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HEAD_WIDTHS = (16, 32, 64, 128)
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
        entry, head = tl.program_id(1) // heads, tl.program_id(1) % heads
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


def why_not(q, out, dtype, heads):
    """Why the kernel cannot add to out for q, with K and V in dtype, as words for the log; None where it can."""
    if q.dtype not in DTYPES or not q.dtype == out.dtype == dtype:
        return f"it does not take q in {q.dtype}, a sum in {out.dtype} and an identity in {dtype}"
    if q.shape[2] // heads not in HEAD_WIDTHS:
        return f"it does not take heads {q.shape[2] // heads} wide"
    return reason_not_on(q.device.type)


@functools.cache
def reason_not_on(device_type):
    """Why the kernel cannot run on a kind of device, as words for the log; None where it can."""
    if device_type != "cuda":
        return f"it needs a CUDA device, and this is {device_type}"
    try:
        kernel()
    except Exception as error:  # an installation of Triton can be broken in many ways
        return f"Triton cannot be used ({error})"
    return None


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
        used = "torch.compile" if call.compiled else "replay" if call.replayed else None
        reason = f"{used} is used" if used else reason_not_on(call.device.type)
        if terms and reason is None:
            return [FusedStep(terms, call)]
        if terms:
            _log_once(reason)
        return [step for term in terms for step in term.steps(call)]


class FusedStep(NamedTuple):
    """One pass of the kernel over a batch."""
    terms: tuple  # those of the fused term whose windows are open
    call: object  # UNetCall

    def __call__(self, out, may_write, q, k, v, extra_options):
        heads = extra_options["n_heads"]
        reason = why_not(q, out, self.call.dtype, heads)
        if reason is not None:
            _log_once(reason)
            for step in (step for term in self.terms for step in term.steps(self.call)):
                out, may_write = step(out, may_write, q, k, v, extra_options), True
            return out
        out = out if may_write and out.is_contiguous() else out.clone(memory_format=torch.contiguous_format)
        layout = (self.terms, self.call.device, self.call.dtype, self.call.batch, self.call.chunks)
        keys, values, tokens, weights = self.call.sampling_cache.get_or_make(layout, self._stack)
        masks = None
        if any(term.mask is not None for term in self.terms):
            grid = (q.shape[1], *extra_options["original_shape"][2:4])
            masks = self.call.sampling_cache.get_or_make((*layout, self.call.frames, *grid), lambda: self._stack_masks(grid))
        add_identities(out, q.contiguous(), keys, values, weights, tokens, masks, heads)
        return out

    def _stack(self):
        """K and V [identities, b, TOKENS, width], the shorter filled up, how many of TOKENS count, and the weights."""
        pairs = [term.identity.laid_out(self.call)[term.projection_index] for term in self.terms]
        counts = [keys.shape[1] for keys, _ in pairs]
        places = max(SMALLEST_DOT, 1 << (max(counts) - 1).bit_length())
        keys, values = (torch.stack([torch.nn.functional.pad(side, (0, 0, 0, places - side.shape[1])) for side in sides])
                        for sides in zip(*pairs, strict=True))
        return (keys, values, torch.tensor(counts, dtype=torch.int32, device=keys.device),
                torch.tensor([term.weight for term in self.terms], device=keys.device))

    def _stack_masks(self, grid):
        """float32 [identities, b, rows]; ones where an identity has no mask."""
        everywhere = torch.ones(self.call.batch, grid[0], device=self.call.device)
        return torch.stack([everywhere if term.mask is None else term.mask.for_call(self.call)(*grid)[:, :, 0]
                            for term in self.terms])


@functools.cache
def _log_once(reason):
    log.info("InstantID: fused attention is not used: %s. The exact terms run instead.", reason)


def with_fused(terms, term):
    """A patch's terms and one more, which shares a pass with the last one where that is fused too."""
    if terms and isinstance(terms[-1], FusedTerm):
        return (*terms[:-1], FusedTerm((*terms[-1].terms, term)))
    return (*terms, FusedTerm((term,)))
