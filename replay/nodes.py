"""The node that replays the steps of a sampling as CUDA graphs."""

from ..host.inputs import checked
from . import identity_net, unet

CATEGORY = "InstantID"


class InstantIDReplay:
    DESCRIPTION = ("Replays the steps of the sampling as CUDA graphs: the same picture, in less time where the GPU waits for "
                   "Python, at the cost of memory. Place it after the last Apply InstantID. Where that cannot be right, or "
                   "without a CUDA GPU, sampling goes on as ever and the log says why.")
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("MODEL", "positive", "negative")
    FUNCTION = "replay"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "An SDXL model, with InstantID or without."}),
                "positive": ("CONDITIONING", {"tooltip": "From Apply InstantID."}),
                "negative": ("CONDITIONING", {"tooltip": "From Apply InstantID."}),
            },
            "optional": {
                "trust_other_patches": ("BOOLEAN", {"default": False, "tooltip": (
                    "Replay other packs' changes of the model, too. Right only if they do the same at every step, as FreeU "
                    "does; otherwise the pictures are wrong.")}),
            },
        }

    @checked
    def replay(self, model, positive, negative, trust_other_patches=False):
        positive, negative = identity_net.with_replay(positive, negative)
        return unet.with_replay(model, trust_other_patches), positive, negative
