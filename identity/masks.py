"""Masks: from the MASK that a user draws to one weight per token of an attention block."""

import math
from typing import NamedTuple

import torch

from ..utils import InstantIDError, as_floating_point


def block_grid(tokens, height, width):
    """Returns rows and columns of an attention block's token grid, from the latent's height and width.

    The block's tokens are the latent's cells at some lower resolution, whose rounding is not known here.
    """
    rows = max(int(height / math.sqrt(height * width / tokens)), 1)
    rows += int(tokens % rows != 0)
    return rows, max(tokens // rows, 1)


def mask_weights(mask, tokens, height, width):
    """Returns masks [m, H, W] at an attention block's resolution: [m, tokens, 1], for a latent of height x width cells."""
    rows, columns = block_grid(tokens, height, width)
    weights = torch.nn.functional.interpolate(mask[:, None], size=(rows, columns), mode="bilinear").flatten(1)
    missing = tokens - weights.shape[1]  # negative: cells too many, cropped at both ends
    before = int(missing / 2)
    return torch.nn.functional.pad(weights, (before, missing - before))[:, :, None]


def usable_mask(mask):
    """Returns a user's masks as attention and conditioning read them: [m, H, W], floating-point numbers.

    mask: any numbers, as [H, W], [m, H, W] or [m, 1, H, W]. Floating-point numbers keep their precision, in which the
    original multiplies; integers become float32. InstantIDError for other shapes and for NaN or infinite numbers.
    """
    shape = list(mask.shape)
    if mask.ndim == 2:
        mask = mask[None]
    elif mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3 or mask.numel() == 0:
        raise InstantIDError(f"A mask must be [masks, height, width]; this one is {shape}. Connect a MASK, or convert the "
                             "image to one first.")
    mask = as_floating_point(mask)
    if not mask.isfinite().all():
        raise InstantIDError("The mask holds numbers that are not finite (NaN or infinite). Connect a mask of numbers from 0 "
                             "to 1.")
    return mask


def with_a_mask_for_each_latent(conditions, latents):
    """Returns ComfyUI's conditions of a sampling with masks completed to the batch by repeating the last one.

    conditions: {name: list of dictionaries}, read only. latents: their number. ComfyUI repeats masks as a whole and fails where
    the number of latents is no multiple of theirs; where it is a multiple, they are left to ComfyUI.
    """
    def completed(condition):
        mask = condition.get("mask")
        if "cross_attn_controlnet" not in condition or mask is None or mask.ndim != 3 or not len(mask) < latents or not (
                latents % len(mask)):
            return condition
        return {**condition, "mask": torch.cat([mask, mask[-1:].expand(latents - len(mask), -1, -1)])}

    return {name: entries and [completed(entry) for entry in entries] for name, entries in conditions.items()}


class LatentMask:
    """A user's masks, scaled to each resolution once in a sampling. Read-only.

    mask: any that `usable_mask` takes, one per latent of a batch: the last serves all further latents, extra ones are dropped.
    """

    def __init__(self, mask):
        self._masks = usable_mask(mask).detach().to("cpu", copy=True)

    def __deepcopy__(self, memo):
        return self

    def for_call(self, call):
        """Returns the `CallMask` of one UNet call (`UNetCall`)."""
        masks = call.sampling_cache.get_or_make((self, call.device), lambda: self._masks.to(call.device))
        # of AnimateDiff's sliding windows a call has some of the frames
        chosen = tuple(min(frame, len(self._masks) - 1) for frame in call.frames) * len(call.chunks)
        return CallMask(masks, chosen, call.sampling_cache)


class CallMask(NamedTuple):
    """The masks of one UNet call, one for each entry of its batch."""
    masks: torch.Tensor  # [m, H, W], on the batch's device
    chosen: tuple        # for each entry of the batch, the number of its mask
    sampling_cache: object  # RecentCache of the sampling

    def __call__(self, tokens, height, width):
        """Returns one weight per token of an attention block: [b, tokens, 1], made once per resolution and layout."""
        def on_grid():
            weights = mask_weights(self.masks, tokens, height, width)
            return torch.stack([weights[number] for number in self.chosen])  # an index list would be copied to the device

        if torch.compiler.is_compiling():  # what a trace does must not depend on what the cache holds
            return on_grid()
        return self.sampling_cache.get_or_make((self.masks, self.chosen, tokens, height, width), on_grid)

    def for_rows(self, rows):
        """Returns the masks of a batch that repeats entries of this one. rows: their numbers."""
        return self._replace(chosen=tuple(self.chosen[row] for row in rows))
