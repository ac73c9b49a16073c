"""One identity for each latent of a batch: the n-th belongs to the n-th latent, the last to all further ones."""

import torch

from .bank import COND

EACH_LATENT = "instantid_each_latent"  # in a conditioning whose tokens are one row for each latent


class EachLatent:
    """Stands for an `Identity` where each latent has its own. Read-only.

    identities: `Identity` objects of as many tokens each.
    """

    differs_by_latent = True

    def __init__(self, identities):
        self.identities = tuple(identities)

    def __deepcopy__(self, memo):
        return self

    @property
    def bytes(self):
        """Bytes of the tensors kept."""
        return sum(identity.bytes for identity in self.identities)

    @property
    def keys(self):
        """Of all pairs those of the first identity: the others' have the same shape."""
        return self.identities[0].keys

    def tokens(self, device):
        """cond and uncond on a device, one row for each identity: [n, tokens, 2048]."""
        return tuple(torch.cat(side) for side in zip(*(identity.tokens(device) for identity in self.identities), strict=True))

    def laid_out(self, call):
        """K and V of all pairs for a UNet call (`UNetCall`): 70 tuples of two tensors [batch, tokens, width].

        Made once in a sampling for each layout of the batch; of AnimateDiff's sliding windows a call has some of the frames.
        """
        def lay_out():
            banks = [identity.on(call.device, call.dtype) for identity in self.identities]
            rows = [(int(chunk == COND), banks[min(frame, len(banks) - 1)]) for chunk in call.chunks for frame in call.frames]
            return tuple(tuple(torch.stack([bank[side][pair][row] for row, bank in rows]) for side in (0, 1))
                         for pair in range(len(banks[0][0])))

        key = (self, call.device, call.dtype, call.batch, call.chunks, call.frames)
        return call.sampling_cache.get_or_make(key, lay_out)


def with_tokens_for_each_latent(conditions, latents):
    """ComfyUI's conditions of a sampling, in which tokens of one row for each latent are completed by repeating the last row.

    conditions: {name: list of dictionaries}, read only; those that are meant have EACH_LATENT. latents: their number. ComfyUI
    would begin again with the first row.
    """
    def completed(condition):
        tokens = condition.get("cross_attn_controlnet") if EACH_LATENT in condition else None
        if tokens is None or len(tokens) >= latents:
            return condition
        missing = tokens[-1:].expand(latents - len(tokens), -1, -1)
        return {**condition, "cross_attn_controlnet": torch.cat([tokens, missing])}

    return {name: entries and [completed(entry) for entry in entries] for name, entries in conditions.items()}
