"""The calls of a sampling that are replayed: the UNet's, and IdentityNet's evaluations."""

from typing import NamedTuple

from ..controlnet.constants import MemoizedLayer, with_options
from ..CrossAttentionPatch import KEY, REPLAY_KEY, install_wrappers
from .memory import run_accounted
from .policy import Policy


def with_replay(model, *conditionings):
    """A clone of a model (ComfyUI's ModelPatcher) and conditionings, whose calls are replayed where that is possible.

    What is given, the ControlNets in it included, is not changed. Returns [model, *conditionings].
    """
    from comfy.patcher_extension import WrappersMP
    policy = Policy()
    model = model.clone()
    install_wrappers(model)
    model.model_options["transformer_options"][REPLAY_KEY] = ReplayedUNet(policy)
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, policy.sample), (WrappersMP.DIFFUSION_MODEL, replay_unet)):
        model.remove_wrappers_with_key(kind, REPLAY_KEY)
        model.add_wrapper_with_key(kind, REPLAY_KEY, wrapper)
    return [model, *with_options(conditionings, lambda control: {
        "replay": ReplayedNet(policy, control.control_model.source[0], control.control_model_wrapped)})]


# ---- the UNet


class ReplayedUNet(NamedTuple):
    """In transformer_options under REPLAY_KEY: that UNet calls are to be replayed."""
    policy: Policy

    def allows(self, model, options, compiled):
        """Whether a call of a BaseModel may be replayed; if not, the reason is told."""
        return self.policy.allows_unet(model, options, compiled)

    def for_call(self, options, call, model):
        """transformer_options for a UNet call (`UNetCall`) of a BaseModel: with what the wrapper needs, or without it."""
        if call.replayed:
            return {**options, REPLAY_KEY: ReplayedCall(self.policy.sampling, call.sampling_cache, model)}
        return {**options, "wrappers": {kind: {key: of for key, of in wrappers.items() if key != REPLAY_KEY}
                                        for kind, wrappers in options["wrappers"].items()}}


class ReplayedCall(NamedTuple):
    """In transformer_options under REPLAY_KEY, for the time of one call."""
    sampling: object        # policy.Sampling
    sampling_cache: object  # RecentCache of the sampling
    model: object           # ComfyUI's BaseModel


def replay_unet(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """ComfyUI wrapper around the UNet."""
    options = dict(transformer_options or {})
    call = options.pop(REPLAY_KEY, None)
    if not isinstance(call, ReplayedCall):  # called past ComfyUI's sampling
        return executor(x, timesteps, context, y, control, options, **kwargs)

    def run(changing, steps):
        *given, others = changing
        return executor(*given, {**options, KEY: steps}, **others)

    model, sampling = call.model, call.sampling
    # another pack's wrapper may have had ComfyUI move weights since the call was allowed
    if not sampling.allows(sampling.why_not("the model", model.diffusion_model, model.current_patcher)):
        return executor(x, timesteps, context, y, control, options, **kwargs)
    sampling.needed = max(sampling.needed, model.memory_required(list(x.shape)))
    changing = x, timesteps, context, y, control, kwargs
    return run_accounted(sampling, model.diffusion_model, model.current_patcher, run, changing, options.get(KEY),
                         tuple(options["cond_or_uncond"]), x.device)


# ---- IdentityNet


class ReplayedNet:
    """How one IdentityNet is replayed; what is constant during a run is in buffers that are filled once in it.

    net: the user's ControlNet module. patcher: ComfyUI's ModelPatcher of it.
    """

    def __init__(self, policy, net, patcher):
        self._policy, self._net, self._patcher = policy, net, patcher
        self._layers = None  # of the one IdentityNet that this belongs to, which compute what is constant

    def __deepcopy__(self, memo):
        return type(self)(self._policy, self._net, self._patcher)

    def evaluate(self, net, forward, x, hint, timesteps, context, others):
        """forward(x, hint, timesteps, context, **others) of net, an IdentityNet."""
        layers = self._layers = self._layers or [layer for layer in net.modules() if isinstance(layer, MemoizedLayer)]
        constants = [layer.results.get(hint if layer is net.input_hint_block else context) for layer in layers]
        if any(constant is None for constant in constants) or not self._policy.allows_net(self._net, self._patcher):
            return forward(x, hint, timesteps, context, **others)

        def run(changing, constants):
            x, timesteps, others = changing
            stand_ins = x.new_empty(0), x.new_empty(0)  # for hint and context: what they are asked for is known
            for layer, constant in zip(layers, constants, strict=True):
                layer.results[stand_ins[layer is not net.input_hint_block]] = constant
            return forward(x, stand_ins[0], timesteps, stand_ins[1], **others)

        return run_accounted(self._policy.sampling, self._net, self._patcher, run, (x, timesteps, others), constants, (),
                             x.device)
