"""The Resampler: a 512-d face embedding becomes 16 tokens of SDXL's context width.

The architecture is fixed by the InstantID checkpoint (a Perceiver resampler, as in Flamingo, arXiv:2204.14198):
learned latents attend, layer by layer, to the embedding and to themselves.
"""

import einops
import torch

EMBEDDING_WIDTH = 512
CONTEXT_WIDTH = 2048
TOKENS = 16
LATENT_WIDTH = 1280
HEAD_WIDTH = 64
LAYERS = 4


class PerceiverAttention(torch.nn.Module):
    """Latents [b, n, 1280] attend to the projected embeddings [b, m, 1280] and to the latents themselves."""

    def __init__(self):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(LATENT_WIDTH)
        self.norm2 = torch.nn.LayerNorm(LATENT_WIDTH)
        self.to_q = torch.nn.Linear(LATENT_WIDTH, LATENT_WIDTH, bias=False)
        self.to_kv = torch.nn.Linear(LATENT_WIDTH, 2 * LATENT_WIDTH, bias=False)
        self.to_out = torch.nn.Linear(LATENT_WIDTH, LATENT_WIDTH, bias=False)

    def forward(self, embeddings, latents):
        embeddings, latents = self.norm1(embeddings), self.norm2(latents)
        query = self._heads(self.to_q(latents))
        key, value = self.to_kv(torch.cat((embeddings, latents), dim=-2)).chunk(2, dim=-1)
        key, value = self._heads(key), self._heads(value)  # (b, heads, m + n, 64)
        # half of the usual 1/sqrt(64) on either side keeps fp16 products in range
        scale = HEAD_WIDTH ** -0.25
        scores = (query * scale) @ (key * scale).transpose(-2, -1)
        attention = torch.softmax(scores.float(), dim=-1).type(scores.dtype)
        out = attention @ value  # (b, heads, n, 64)
        return self.to_out(einops.rearrange(out, "b heads n width -> b n (heads width)"))

    @staticmethod
    def _heads(x):
        return einops.rearrange(x, "b tokens (heads width) -> b heads tokens width", width=HEAD_WIDTH)


class Resampler(torch.nn.Module):
    """Turns face embeddings [b, m, 512] into identity tokens [b, 16, 2048], in their dtype and on their device."""

    def __init__(self):
        super().__init__()
        self.latents = torch.nn.Parameter(torch.empty(1, TOKENS, LATENT_WIDTH))
        self.proj_in = torch.nn.Linear(EMBEDDING_WIDTH, LATENT_WIDTH)
        self.proj_out = torch.nn.Linear(LATENT_WIDTH, CONTEXT_WIDTH)
        self.norm_out = torch.nn.LayerNorm(CONTEXT_WIDTH)
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleList((PerceiverAttention(), torch.nn.Sequential(
                torch.nn.LayerNorm(LATENT_WIDTH),
                torch.nn.Linear(LATENT_WIDTH, 4 * LATENT_WIDTH, bias=False),
                torch.nn.GELU(),
                torch.nn.Linear(4 * LATENT_WIDTH, LATENT_WIDTH, bias=False),
            ))) for _ in range(LAYERS))

    def forward(self, embeddings):
        tokens, = self.tokens_of_each(embeddings)
        return tokens

    def tokens_of_each(self, *embeddings, on_device=lambda part: part):
        """Returns a list with the tokens of each of several embeddings, which are not batched together.

        on_device(part) returns a part of this module with its weights on the embeddings' device. It is called once for each
        part, which then serves all embeddings, so that only one part's weights need to be there at a time.
        """
        latents = [self.latents.to(each).repeat(each.shape[0], 1, 1) for each in embeddings]
        embeddings = _map(on_device(self.proj_in), embeddings)
        for attention, feed_forward in self.layers:
            latents = [new + old for new, old in zip(_map(on_device(attention), embeddings, latents), latents, strict=True)]
            latents = [new + old for new, old in zip(_map(on_device(feed_forward), latents), latents, strict=True)]
        return _map(on_device(self.norm_out), _map(on_device(self.proj_out), latents))


def _map(function, *inputs):
    return [function(*arguments) for arguments in zip(*inputs, strict=True)]
