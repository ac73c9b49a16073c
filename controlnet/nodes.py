"""The node that leaves out some of IdentityNet's steps."""

from ..host.inputs import checked
from .step_reuse import with_step_reuse

CATEGORY = "InstantID/speed"


class InstantIDStepReuse:
    DESCRIPTION = ("Saves time by running IdentityNet, InstantID's ControlNet, at some of the steps only; the steps in between "
                   "use its last result again. This changes the picture: pose and likeness are followed less exactly. Place it "
                   "after the last Apply InstantID. The first two steps always run. It has no effect with samplers such as "
                   "Heun, with context windows and with tiles that share one hint, which ask for IdentityNet several times at "
                   "one noise level. Once a sampler goes back to a higher noise level, every step runs.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["faster instantid", "skip steps", "controlnet cache", "speed up"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("The prompt. Connect it to the sampler.", "The negative prompt. Connect it to the sampler.")
    FUNCTION = "reuse"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": ("CONDITIONING", {"tooltip": "The output `positive` of Apply InstantID."}),
                "negative": ("CONDITIONING", {"tooltip": "The output `negative` of Apply InstantID."}),
                "every": ("INT", {"default": 2, "min": 1, "max": 10, "tooltip": (
                    "IdentityNet runs at every n-th step. 1: at every step, which gives the exact picture. Higher numbers are "
                    "faster and change the picture more.")}),
                "most_drift": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": (
                    "Steps are only left out while IdentityNet's result changes by no more than this part of its size. Lower "
                    "values change the picture less. 0: practically every step is computed. 1: no limit.")}),
            },
        }

    @checked
    def reuse(self, positive, negative, every=2, most_drift=1.0):
        return tuple(with_step_reuse(positive, negative, every=every, most_drift=most_drift))
