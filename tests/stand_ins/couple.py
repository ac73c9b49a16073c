"""Attention Couple, written from its description: each region of the picture attends to a text of its own.

In the positive pass q is repeated once for each region, with that region's text as context; after the attention the parts are
weighted by the regions' masks and added up. Some packs leave in the options of the block which part of the batch is what.
"""

import torch

LABELS = ("cond_or_uncond_couple", "cond_or_uncond_hook_couple")


class Couple:
    """The two patches at each cross-attention block.

    texts: [1, tokens, 2048] of each region. masks: [1, H, W] of each, which add up to 1. label: the name under which it says
    which part of the batch is what, or None.
    """

    def __init__(self, texts, masks, label):
        self.texts, self.masks, self.label = texts, masks, label

    def before(self, q, context, value, extra_options):
        chunks = extra_options["cond_or_uncond"]
        parts, contexts, kinds = [], [], []
        for number, part, text in zip(chunks, q.chunk(len(chunks)), context.chunk(len(chunks)), strict=True):
            regions = [text] if number == 1 else [own.to(text).expand_as(text) for own in self.texts]
            parts += [part] * len(regions)
            contexts += regions
            kinds += [number] * len(regions)
        if self.label is not None:
            extra_options[self.label] = kinds
        context = torch.cat(contexts)
        return torch.cat(parts), context, context

    def after(self, out, extra_options):
        chunks = extra_options["cond_or_uncond"]
        per_chunk = extra_options["original_shape"][0] // len(chunks)
        parts, merged = iter(out.split(per_chunk)), []
        for number in chunks:
            merged.append(next(parts) if number == 1 else sum(next(parts) * self._weights(mask, out, extra_options)
                                                               for mask in self.masks))
        return torch.cat(merged)

    def _weights(self, mask, out, extra_options):
        height, width = extra_options["original_shape"][2:4]
        scale = (height * width / out.shape[1]) ** 0.5
        size = (round(height / scale), round(width / scale))
        return torch.nn.functional.interpolate(mask[None], size).reshape(1, -1, 1).to(out)


def with_couple(model, texts, masks, label=None):
    """A clone of a model with Attention Couple."""
    model, couple = model.clone(), Couple(texts, masks, label)
    model.set_model_attn2_patch(couple.before)
    model.set_model_attn2_output_patch(couple.after)
    return model
