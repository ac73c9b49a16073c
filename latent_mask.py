"""Masks: from the MASK that a user draws to one weight per token of an attention block."""

import math
import threading

import torch

KEPT_GRIDS = 64  # an SDXL run uses two block sizes, per resolution and batch layout


def block_grid(tokens, height, width):
    """Rows and columns of an attention block's token grid, from the latent's height and width.

    The block's tokens are the latent's cells at some lower resolution, whose rounding is not known here.
    """
    rows = max(int(height / math.sqrt(height * width / tokens)), 1)
    rows += int(tokens % rows != 0)
    return rows, max(tokens // rows, 1)


def mask_weights(mask, tokens, height, width):
    """Masks [m, H, W] at an attention block's resolution: [m, tokens, 1], for a latent of height x width cells."""
    rows, columns = block_grid(tokens, height, width)
    weights = torch.nn.functional.interpolate(mask[:, None], size=(rows, columns), mode="bilinear").flatten(1)
    missing = tokens - weights.shape[1]  # negative: cells too many, cropped at both ends
    before = int(missing / 2)
    return torch.nn.functional.pad(weights, (before, missing - before))[:, :, None]


class LatentMask:
    """A user's masks, brought to each resolution once. Read-only.

    mask: float [m, H, W], one per latent of a batch: the last serves all further latents, extra ones are dropped.
    """

    def __init__(self, mask):
        if mask.ndim == 2:
            mask = mask[None]
        elif mask.ndim == 4 and mask.shape[1] == 1:
            mask = mask[:, 0]
        if mask.ndim != 3 or mask.numel() == 0:
            raise ValueError(f"A mask must be [masks, height, width]; this one is {list(mask.shape)}. "
                             "Connect a MASK, or convert the image to one first.")
        self._mask = mask.detach().to("cpu", torch.float32, copy=True)
        self._grids = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo):
        return self

    def on_grid(self, q, chunks, extra_options):
        """One weight per token: float32 [b, tokens, 1], on q's device, for a batch of equal chunks of latents.

        q: [b, tokens, width]. extra_options: ComfyUI's, of which original_shape [b, c, h, w] is the latent's, and
        AnimateDiff's ad_params["sub_idxs"], where set, are the frames in this call.
        """
        height, width = extra_options["original_shape"][2:4]
        frames = (extra_options.get("ad_params") or {}).get("sub_idxs")
        frames = range(q.shape[0] // chunks) if frames is None else frames
        key = (tuple(int(frame) for frame in frames), chunks, q.shape[1], height, width, q.device)
        grid = self._grids.get(key)
        if grid is None:
            chosen = [min(frame, len(self._mask) - 1) for frame in key[0]]
            grid = mask_weights(self._mask[chosen], q.shape[1], height, width).repeat(chunks, 1, 1).to(q.device)
            with self._lock:
                if len(self._grids) >= KEPT_GRIDS:
                    self._grids.clear()
                self._grids[key] = grid
        return grid
