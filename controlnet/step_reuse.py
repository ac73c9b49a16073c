"""IdentityNet evaluated at some steps only, with its last residuals reused in between. This changes the picture."""

import logging

import torch

from .. import performance
from ..caches import TensorDictionary, tensor_key
from ..host.server import outside_of_recordings, tell
from .identity_net import with_changed_nets

NO_LIMIT = 1.0        # of most_drift: any change is allowed
ALWAYS_EVALUATED = 2  # noise levels at the beginning of a run
MOST_KEPT = 8         # residuals of one size of the latents; further calls are always evaluated


def with_step_reuse(*conditionings, every, most_drift=NO_LIMIT):
    """Returns the conditionings with every IdentityNet reusing its residuals; those given, and their ControlNets, are not
    changed. every, most_drift: as `StepReuse` has them; every=1 evaluates each step again."""
    return with_changed_nets(conditionings, lambda control: {"reuse": StepReuse(every, most_drift) if every > 1 else None})


class StepReuse:
    """The rule by which one IdentityNet is evaluated: at the first two steps, and from there on at most at each `every`-th.

    most_drift: residuals are reused only while the last two evaluations differed by no more than this part of the norm of the
    last; 1.0 sets no limit.

    A step is a noise level. Within a step the IdentityNet is called once for each layout of the batch, for each area, and for
    each tile that has a hint of its own. These calls are told apart by the hint, the latents' shape, and the content of the
    identity tokens and the pooled text. Where two calls of one step agree in all of them (tiles or areas of one hint, context
    windows, Heun's corrections), and once a sampler has gone back to a higher noise level, all calls are evaluated until the
    run ends. Heun asks for the second noise level twice: that is why it is always evaluated.

    Each call reads the timestep, the tokens and the pooled text from the device, 71 KB for each pass, at a moment when ComfyUI
    has just waited for the noise level. At SDXL's size in 16 bits and 1024 x 1024 pixels, 54 MB for each latent and pass are
    kept until the run ends.
    """

    def __init__(self, every, most_drift=NO_LIMIT):
        self.every, self.most_drift = every, most_drift
        self._begin(None)

    def __deepcopy__(self, memo):
        return type(self)(self.every, self.most_drift)

    def _begin(self, run):
        self._run, self._step, self._level = run, 0, None
        self._is_off = False
        self._kept = TensorDictionary()  # {hint: {key of a call: ResidualRecord}}

    def residuals(self, net, x, hint, timesteps, context, others):
        """Returns net.evaluate(x, hint, timesteps, context, **others) or a copy of its result at an earlier step."""
        self._advance_to(float(timesteps[0]), net.hints.run)
        kept = None if self._is_off else self._record_of(hint, x, context, others)
        reused = kept is not None and self._step >= ALWAYS_EVALUATED and kept.may_be_reused(
            self._step, self.every, self.most_drift)
        performance.count_lookup("IdentityNet steps", reused)
        if reused:
            return copy_of(kept.residuals)
        residuals = net.evaluate(x, hint, timesteps, context, **others)
        if kept is not None:
            with outside_of_recordings():
                kept.keep(self._step, residuals, self.most_drift)
        return residuals

    def _advance_to(self, level, run):
        rises = self._level is not None and level > self._level
        if run is not self._run or (rises and run is None):
            self._begin(run)
        elif rises:
            self._turn_off("the sampler goes back to a higher noise level")
        elif self._level is not None and level < self._level:
            self._step += 1
        self._level = level

    def _record_of(self, hint, x, context, others):
        """Returns the ResidualRecord of a call; None if there are too many, or if this step has had such a call."""
        key = (x.shape, tensor_key(context), *(tensor_key(value) for value in others.values() if torch.is_tensor(value)))
        of_hint = self._kept.setdefault(hint, {})
        if key not in of_hint and len(of_hint) == MOST_KEPT:
            return None
        kept = of_hint.setdefault(key, ResidualRecord())
        if kept.last_call == self._step:
            self._turn_off("IdentityNet is asked several times at one noise level for one hint (tiles, context windows, a "
                           "sampler such as Heun)")
            return None
        kept.last_call = self._step
        return kept

    def _turn_off(self, reason):
        """Evaluates all calls until the run ends."""
        if not self._is_off:
            tell(f"No step reuse: {reason}. IdentityNet runs at every step from here on.", logging.INFO)
        self._is_off = True
        self._kept.clear()


class ResidualRecord:
    """The residuals kept for one kind of call."""

    def __init__(self):
        self.last_call = None   # step of the last call
        self._kept_step = None  # step of the last evaluation
        self._drift = None
        self.residuals = None   # read-only

    def may_be_reused(self, step, every, most_drift):
        """Returns whether a call at this step may use the residuals."""
        return self.residuals is not None and step - self._kept_step < every and (
            most_drift >= NO_LIMIT or (self._drift is not None and float(self._drift) <= most_drift))

    def keep(self, step, residuals, most_drift):
        """Keeps a copy of the residuals of an evaluation."""
        if self.residuals is not None and most_drift < NO_LIMIT:
            self._drift = drift(self.residuals, residuals)
        self._kept_step, self.residuals = step, copy_of(residuals)


def drift(before, now):
    """Returns the norm of the change of all residuals, as a part of their norm now: a scalar on their device."""
    pairs = [pair for side in now for pair in zip(before[side], now[side], strict=True)]
    change, size = (torch.stack([torch.linalg.vector_norm(tensor, dtype=torch.float32) for tensor in tensors]).norm()
                    for tensors in ([new - old for old, new in pairs], [new for _, new in pairs]))
    return change / size


def copy_of(residuals):
    """Returns a copy of residuals {"middle": tensors, "output": tensors}."""
    return {side: [tensor.clone() for tensor in tensors] for side, tensors in residuals.items()}


class InstantIDStepReuse:
    DESCRIPTION = ("Saves time by running IdentityNet, InstantID's ControlNet, at some of the steps only; the steps in between "
                   "use its last result again. This changes the picture: pose and likeness are followed less exactly. Place it "
                   "after the last Apply InstantID. The first two steps always run. It has no effect with samplers such as "
                   "Heun, with context windows and with tiles that share one hint, which ask for IdentityNet several times at "
                   "one noise level. Once a sampler goes back to a higher noise level, every step runs.")
    CATEGORY = "InstantID/advanced"
    SEARCH_ALIASES = ["faster instantid", "skip steps", "controlnet cache", "speed up", "加速"]
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

    def reuse(self, positive, negative, every=2, most_drift=1.0):
        return tuple(with_step_reuse(positive, negative, every=every, most_drift=most_drift))
