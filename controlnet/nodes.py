"""The node that leaves out some of IdentityNet's steps."""

from ..host.inputs import checked
from .step_reuse import with_step_reuse

CATEGORY = "InstantID"


class InstantIDStepReuse:
    DESCRIPTION = ("Runs IdentityNet, InstantID's ControlNet, at some steps only, and adds what it gave there at the steps in "
                   "between. This changes the picture: pose and likeness are held less exactly, in return for less time. Place "
                   "it after the last Apply InstantID, before or after InstantID Replay. Without effect on tiles, context "
                   "windows and samplers such as Heun, which ask for it several times at one noise level.")
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    FUNCTION = "reuse"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": ("CONDITIONING", {"tooltip": "From Apply InstantID."}),
                "negative": ("CONDITIONING", {"tooltip": "From Apply InstantID."}),
                "every": ("INT", {"default": 2, "min": 1, "max": 10, "tooltip": (
                    "IdentityNet runs at most at each n-th step. 1: at every step, the exact picture; anything higher changes "
                    "the picture, the more the higher.")}),
                "most_drift": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": (
                    "Leave out steps only while IdentityNet's result, the last two times that it ran, changed by no more than "
                    "this part of its norm. Lower changes the picture less; 0: practically never; 1: not asked.")}),
            },
        }

    @checked
    def reuse(self, positive, negative, every=2, most_drift=1.0):
        return tuple(with_step_reuse(positive, negative, every=every, most_drift=most_drift))
