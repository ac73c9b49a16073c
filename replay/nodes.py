"""The node that replays the steps of a sampling as CUDA graphs."""

from ..host.inputs import checked
from .calls import with_replay

CATEGORY = "InstantID/speed"


class InstantIDReplay:
    DESCRIPTION = ("Saves time by replaying the steps of the sampling as CUDA graphs: the same picture, in less time where the "
                   "GPU waits for Python, in exchange for some GPU memory. Place it after the last Apply InstantID. Where it "
                   "cannot be used, such as without an NVIDIA GPU, the sampling works as usual and a text on the sampler says "
                   "why.")
    EXPERIMENTAL = True  # has not run on a GPU
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["cuda graph", "cuda graphs", "faster sampling", "speed up"]
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("MODEL", "positive", "negative")
    OUTPUT_TOOLTIPS = ("The model. Connect it to the sampler.", "The prompt. Connect it to the sampler.",
                       "The negative prompt. Connect it to the sampler.")
    FUNCTION = "replay"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "An SDXL model, with InstantID or without."}),
                "positive": ("CONDITIONING", {"tooltip": "The output `positive` of Apply InstantID."}),
                "negative": ("CONDITIONING", {"tooltip": "The output `negative` of Apply InstantID."}),
            },
        }

    @checked
    def replay(self, model, positive, negative):
        return tuple(with_replay(model, positive, negative))
