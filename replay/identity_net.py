"""IdentityNet's evaluation replayed as a CUDA graph, what is constant during a run in buffers that are filled once in it."""

import weakref

from ..controlnet.constants import Remembered, with_options
from . import graphs as graph_replay
from .memory import run_accounted


def with_replay(*conditionings):
    """The conditionings with every IdentityNet in them replayed; those given, and their ControlNets, are not changed."""
    def options(control):
        module, = control.control_model.source
        return {"replay": Replay(graph_replay.replays_of(module), control.control_model_wrapped)}
    return with_options(conditionings, options)


class Replay:
    """How one IdentityNet is replayed. replays: `graph_replay.Replays` of the user's ControlNet module. patcher: ComfyUI's
    ModelPatcher of it."""

    def __init__(self, replays, patcher):
        self._replays, self._patcher = replays, patcher
        self._hint = graph_replay.nothing  # weak reference to the hint of the last call: another one is another run or size
        self._reason = self._layers = None

    def __deepcopy__(self, memo):
        return type(self)(self._replays, self._patcher)

    def evaluate(self, net, forward, x, hint, timesteps, context, others):
        """forward(x, hint, timesteps, context, **others) of net, an IdentityNet."""
        if self._hint() is not hint:
            self._begin(net, hint)
        layers = self._layers
        keys = [hint if layer is net.input_hint_block else context for layer in layers]
        constants = [layer.results.get(key) for layer, key in zip(layers, keys, strict=True)]
        if self._reason is not None or any(constant is None for constant in constants):
            return forward(x, hint, timesteps, context, **others)

        def run(changing, constants):
            x, timesteps, others = changing
            stand_ins = x.new_empty(0), x.new_empty(0)  # for hint and context: what they are asked for is known
            for layer, constant in zip(layers, constants, strict=True):
                layer.results[stand_ins[layer is not net.input_hint_block]] = constant
            return forward(x, stand_ins[0], timesteps, stand_ins[1], **others)

        return run_accounted(self._replays, run, (x, timesteps, others), constants, (), x.device)

    def _begin(self, net, hint):
        module, = net.source
        self._hint = weakref.ref(hint)
        self._layers = [layer for layer in net.modules() if isinstance(layer, Remembered)]
        self._reason = graph_replay.why_not_module(module, self._patcher)
        if self._reason is None:
            self._replays.weights_lie_at(graph_replay.places_of(module))
        else:
            graph_replay.say_why_not(f"IdentityNet: {self._reason}")
