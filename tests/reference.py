"""The contract's formula at each attention block, written out without keeping anything: what exact mode must equal bit for bit.

It does per block and step what the original did: one read of the noise level, and the projections of both sets of tokens.
"""

import torch
from comfy.ldm.modules.attention import optimized_attention
from instantid_swift.CrossAttentionPatch import SDXL_BLOCKS


class ReferencePatch:
    """One block. to_k, to_v: weights [width, 2048] in the dtype and on the device of the tokens [N, 16, 2048]."""

    def __init__(self, cond, uncond, to_k, to_v, weight, sigma_start, sigma_end):
        self.cond, self.uncond, self.to_k, self.to_v = cond, uncond, to_k, to_v
        self.weight, self.sigma_start, self.sigma_end = weight, sigma_start, sigma_end

    def __deepcopy__(self, memo):
        return self

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        sigma = extra_options["sigmas"][0].item()
        if self.sigma_end <= sigma <= self.sigma_start:
            keys, values = (self.laid_out(weight, q, extra_options["cond_or_uncond"]) for weight in (self.to_k, self.to_v))
            out = out + self.weight * optimized_attention(q, keys, values, extra_options["n_heads"])
        return out.to(q.dtype)

    def laid_out(self, weight, q, chunks):
        cond, uncond = (torch.nn.functional.linear(tokens, weight).flatten(0, 1)[None] for tokens in (self.cond, self.uncond))
        repeats = q.shape[0] // len(chunks)
        return torch.cat([(uncond if chunk else cond).repeat(repeats, 1, 1) for chunk in chunks])


def reference_model(model, adapter, identity, weight, start_at=0.0, end_at=1.0, blocks=SDXL_BLOCKS):
    """A clone of a model with a ReferencePatch at each of the blocks. identity: gives the tokens."""
    model = model.clone()
    percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    window = float(percent_to_sigma(start_at)), float(percent_to_sigma(end_at))
    module = adapter.patcher.model
    for pair, block in enumerate(SDXL_BLOCKS):
        if block in blocks:
            to_k, to_v = (projections[pair].weight.to(identity.cond) for projections in (module.to_k, module.to_v))
            model.set_model_attn2_replace(ReferencePatch(identity.cond, identity.uncond, to_k, to_v, weight, *window), *block)
    return model
