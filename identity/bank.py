"""Identities: the merged embedding of several photos, its counterpart in the negative pass, the bank of K and V."""

import mmap

import torch

COND, UNCOND = 0, 1  # ComfyUI's numbers of the two passes in transformer_options["cond_or_uncond"]
NOISE_SEED_MODULUS = 1000000007
EACH_LATENT = "instantid_each_latent"  # in a conditioning whose tokens are one row for each latent


def merge_embeddings(embeddings, method):
    """Merges several reference embeddings [N, 1, 512] into those of one identity.

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
    """Returns the embedding for the negative pass: zeros, or uniform noise of the given strength.

    The noise is seeded by the embedding, so that a face always gives the same picture, and drawn from a generator of
    its own: torch's global state is the user's. Both tensors: float32 on the CPU, the same shape.
    """
    if noise <= 0:
        return torch.zeros_like(embedding)
    seed = int(torch.sum(embedding).item()) % NOISE_SEED_MODULUS
    generator = torch.Generator("cpu").manual_seed(seed)
    return noise * torch.rand(embedding.shape, generator=generator)


class Identity:
    """The tokens, K and V of one person, or of several photos concatenated. Read-only once made; it lies on the CPU.

    cond, uncond: identity tokens [N, 16, 2048], for IdentityNet.
    keys, values: for each of the 70 adapter pairs a tensor [2, N * 16, width], row 0 uncond, row 1 cond: the order in which
    ComfyUI batches the two passes. They are views of one buffer, so that one copy brings all to the device.
    """

    def __init__(self, cond, uncond, keys, values):
        self._shapes = [tensor.shape for tensor in (*keys, *values)]
        parts = [tensor.flatten() for tensor in (*keys, *values, cond, uncond)]
        memory = mapped_memory(sum(map(len, parts)), parts[0].dtype)
        memory.copy_(torch.cat(parts))  # one copy from the device
        self._bank = memory[:sum(shape.numel() for shape in self._shapes)]
        self.cond, self.uncond = (side.view(cond.shape) for side in memory[len(self._bank):].chunk(2))
        self.keys, self.values = self._views(self._bank)

    def __deepcopy__(self, memo):
        return self  # read-only, so that copies can share it

    def _views(self, bank):
        parts = bank.split([shape.numel() for shape in self._shapes])
        views = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        pairs = len(views) // 2
        return views[:pairs], views[pairs:]

    @property
    def bytes(self):
        """Bytes of the tensors kept."""
        return sum(t.numel() * t.element_size() for t in (self.cond, self.uncond, self._bank))

    def tokens(self, device):
        """Returns copies of cond and uncond on a device, which the caller may change."""
        return self.cond.to(device, copy=True), self.uncond.to(device, copy=True)

    def to_device(self, device, dtype):
        """Returns (keys, values) of all pairs on a device, as views of one copy."""
        return self._views(self._bank.to(device, dtype))

    def keys_and_values(self, call):
        """Returns K and V of all pairs for a UNet call (`UNetCall`): 70 tuples of two tensors [batch, N * 16, width].

        Made once in a sampling, on its device and in its dtype.
        """
        def make_layout():
            # ComfyUI numbers further negative passes (Perp-Neg) 2 and up
            rows = [int(chunk == COND) for chunk in call.chunks for _ in range(call.batch // len(call.chunks))]
            return tuple((rows_of(keys, rows), rows_of(values, rows))
                         for keys, values in zip(*self.to_device(call.device, call.dtype), strict=True))

        return call.sampling_cache.get_or_make((self, call.device, call.dtype, call.batch, call.chunks), make_layout)


class EachLatent:
    """The identities of a batch in which each latent has its own, with the interface of `Identity`. Read-only.

    identities: `Identity` objects with equal numbers of tokens.
    """

    def __init__(self, identities):
        self.identities = tuple(identities)

    def __deepcopy__(self, memo):
        return self

    @property
    def keys(self):
        """The keys of the first identity for all pairs; those of the others have the same shapes."""
        return self.identities[0].keys

    def tokens(self, device):
        """Returns cond and uncond on a device, one row for each identity: [n, tokens, 2048]."""
        return tuple(torch.cat(side) for side in zip(*(identity.tokens(device) for identity in self.identities), strict=True))

    def keys_and_values(self, call):
        """Returns K and V of all pairs for a UNet call (`UNetCall`): 70 tuples of two tensors [batch, tokens, width].

        Made once in a sampling for each layout of the batch; of AnimateDiff's sliding windows a call has some of the frames.
        """
        def make_layout():
            banks = [identity.to_device(call.device, call.dtype) for identity in self.identities]
            rows = [(int(chunk == COND), banks[min(frame, len(banks) - 1)]) for chunk in call.chunks for frame in call.frames]
            return tuple(tuple(torch.stack([bank[side][pair][row] for row, bank in rows]) for side in (0, 1))
                         for pair in range(len(banks[0][0])))

        key = (self, call.device, call.dtype, call.batch, call.chunks, call.frames)
        return call.sampling_cache.get_or_make(key, make_layout)


def with_tokens_for_each_latent(conditions, latents):
    """Returns ComfyUI's conditions of a sampling with one row of tokens for each latent: the last row is repeated, and
    surplus rows are left out.

    conditions: {name: list of dictionaries}, read only, of which those with EACH_LATENT count. latents: their number. ComfyUI
    would begin again with the first row, and in a context window it finds the rows of the window's frames by that number.
    """
    def completed(condition):
        tokens = condition.get("cross_attn_controlnet") if EACH_LATENT in condition else None
        if tokens is None or len(tokens) == latents:
            return condition
        missing = tokens[-1:].expand(max(latents - len(tokens), 0), -1, -1)
        return {**condition, "cross_attn_controlnet": torch.cat([tokens[:latents], missing])}

    return {name: entries and [completed(entry) for entry in entries] for name, entries in conditions.items()}


def mapped_memory(count, dtype):
    """Returns an empty tensor [count] on the CPU, in memory that is mapped for it alone and goes back to the system with it.

    A bank of 10 MB in the heap, among blocks that a sampling frees, would keep the heap from shrinking: the process would grow
    by gigabytes as persons change.
    """
    with torch.inference_mode(False):
        return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype)


def rows_of(tensor, rows):
    """Returns the rows of a tensor with the given numbers. Indexing by a list would copy that to the device."""
    return tensor if rows == list(range(len(tensor))) else torch.stack([tensor[row] for row in rows])
