"""The nodes that make steps cheaper: by replaying them as CUDA graphs, and by reusing IdentityNet's residuals."""

from . import identity_net_replay, step_reuse, unet_replay

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

    def replay(self, model, positive, negative, trust_other_patches=False):
        positive, negative = identity_net_replay.with_replay(positive, negative)
        return unet_replay.with_replay(model, trust_other_patches), positive, negative


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

    def reuse(self, positive, negative, every=2, most_drift=1.0):
        return tuple(step_reuse.with_step_reuse(positive, negative, every=every, most_drift=most_drift))
