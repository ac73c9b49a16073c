"""From face embeddings to what the attention blocks read: the merged embedding, its counterpart, the bank of K and V."""

import torch

from .caches import RecentCache

COND = 0  # ComfyUI's number of the positive pass in transformer_options["cond_or_uncond"]
NOISE_SEED_MODULUS = 1000000007
KEPT_LAYOUTS = 4


def merge_embeddings(embeddings, method):
    """Several reference embeddings [N, 1, 512] as one identity.

    method: "average" and "norm average" give [1, 1, 512], "concat" keeps [N, 1, 512]. "norm average" divides by the
    norm along N, not along the embedding: a slip of the original that two years of pictures depend on.
    A single reference is left as it is.
    """
    if method not in ("average", "norm average", "concat"):
        raise ValueError(f"combine_embeds is {method!r}; choose average, norm average or concat.")
    if len(embeddings) == 1 or method == "concat":
        return embeddings
    if method == "norm average":
        embeddings = embeddings / torch.norm(embeddings, dim=0, keepdim=True)
    return torch.mean(embeddings, dim=0, keepdim=True)


def unconditional_embedding(embedding, noise):
    """What the negative pass sees in place of a face: zeros, or uniform noise of the given strength.

    The noise is seeded by the embedding, so that a face always gives the same picture, and drawn from a generator of
    its own: torch's global state is the user's. Both tensors: float32 on the CPU, the same shape.
    """
    if noise <= 0:
        return torch.zeros_like(embedding)
    seed = int(torch.sum(embedding).item()) % NOISE_SEED_MODULUS
    generator = torch.Generator("cpu").manual_seed(seed)
    return noise * torch.rand(embedding.shape, generator=generator)


class Identity:
    """One person (or several, concatenated) as SDXL's blocks attend to them. Read-only once made.

    cond, uncond: identity tokens [N, 16, 2048], for IdentityNet.
    keys, values: for each of the 70 adapter pairs a tensor [2, N * 16, width], row 0 uncond, row 1 cond: the order in which
    ComfyUI batches the two passes, so that in the usual batch they serve as they are.
    """

    def __init__(self, cond, uncond, keys, values):
        self.cond = cond
        self.uncond = uncond
        self.keys = tuple(keys)
        self.values = tuple(values)
        self._layouts = RecentCache(KEPT_LAYOUTS)

    def __deepcopy__(self, memo):
        return self  # read-only, so that a copy of whoever refers to it is free

    @property
    def bytes(self):
        """Bytes of the tensors kept, without the layouts."""
        return sum(t.numel() * t.element_size() for t in (self.cond, self.uncond, *self.keys, *self.values))

    def laid_out(self, device, dtype, batch, chunks):
        """K and V of all pairs for a batch: 70 tuples of two tensors [batch, N * 16, width], on a device and in a dtype.

        chunks: ComfyUI's cond_or_uncond, each entry an equal part of the batch. Made once; the last few layouts are kept,
        as a run may alternate between them.
        """
        def lay_out():
            # ComfyUI numbers further negative passes (Perp-Neg) 2 and up
            rows = [int(chunk == COND) for chunk in chunks for _ in range(batch // len(chunks))]
            return tuple((_rows(keys, rows).to(device, dtype), _rows(values, rows).to(device, dtype))
                         for keys, values in zip(self.keys, self.values, strict=True))

        return self._layouts.get_or_make((device, dtype, batch, tuple(chunks)), lay_out)


def _rows(tensor, rows):
    return tensor if rows == [0, 1] else torch.stack([tensor[row] for row in rows])
