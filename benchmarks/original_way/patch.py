"""The attention term with nothing kept: at every block and call one read of the noise level, four projections, the mask."""

import torch
from comfy.ldm.modules.attention import optimized_attention

from .formulas import ours

mask_weights = ours("identity.masks").mask_weights


class Patch:
    """What stands at one block: its own attention and the terms added to it, by IPAdapter's and PuLID's protocol."""

    def __init__(self, callback, **kwargs):
        self.terms = [(callback, kwargs)]

    def add(self, callback, **kwargs):
        self.terms.append((callback, kwargs))

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        sigma = extra_options["sigmas"][0].item()
        for callback, kwargs in self.terms:
            if kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]:
                out = out + callback(out, q, k, v, extra_options, **kwargs)
        return out.to(q.dtype)


def identity_term(out, q, k, v, extra_options, *, to_k, to_v, cond, uncond, weight, mask, **window):
    """attention to an identity, times weight, times mask: in this order, and the last product in float32.

    to_k, to_v: weights [width, 2048] in dtype and on the device of the tokens
    cond, uncond [N, 16, 2048]. mask: MASK or None."""
    chunks = extra_options["cond_or_uncond"]
    repeats = q.shape[0] // len(chunks)

    def project(weights):
        of_cond, of_uncond = (torch.nn.functional.linear(tokens, weights).flatten(0, 1)[None].repeat(repeats, 1, 1)
                              for tokens in (cond, uncond))
        return torch.cat([of_uncond if chunk else of_cond for chunk in chunks])

    term = optimized_attention(q, project(to_k), project(to_v), extra_options["n_heads"]) * weight
    if mask is None:
        return term
    frames = (extra_options.get("ad_params") or {}).get("sub_idxs") or range(repeats)
    masks = mask[[min(frame, len(mask) - 1) for frame in frames] * len(chunks)].to(q.device)
    return (term * mask_weights(masks, q.shape[1], *extra_options["original_shape"][2:4])).to(q.dtype)


def patch_model(model, projections, cond, uncond, weight, start_at=0.0, end_at=1.0, mask=None):
    """A clone of a model with the term at each block of projections, {(section, id, index): (to_k, to_v)}.

    Where there is a patch already the term is added to it, in the model that was given as well: clone() shares it.
    """
    model = model.clone()
    percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    shared = {"cond": cond, "uncond": uncond, "weight": weight, "mask": mask,
              "sigma_start": float(percent_to_sigma(start_at)), "sigma_end": float(percent_to_sigma(end_at))}
    found = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for block, (to_k, to_v) in projections.items():
        if block in found:
            found[block].add(identity_term, to_k=to_k, to_v=to_v, **shared)
        else:
            model.set_model_attn2_replace(Patch(identity_term, to_k=to_k, to_v=to_v, **shared), *block)
    return model
