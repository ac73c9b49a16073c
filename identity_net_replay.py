"""IdentityNet's evaluation replayed as a CUDA graph, what is constant during a run in buffers that are filled once in it."""

import weakref

from . import graph_replay
from .control_constants import Remembered, with_options

_of_module = weakref.WeakKeyDictionary()  # the user's comfy.cldm.cldm.ControlNet: Replays


def with_replay(*conditionings):
    """The conditionings with every IdentityNet in them replayed; those given, and their ControlNets, are not changed."""
    return with_options(conditionings, lambda control: {"replay": Replay(control.control_model_wrapped)})


class Replay:
    """How one IdentityNet is replayed. patcher: ComfyUI's ModelPatcher of its weights."""

    def __init__(self, patcher):
        self._patcher = patcher
        self._hint = graph_replay.nothing  # weak reference to the hint of the last call: another one is another run or size
        self._replays = self._layers = None

    def __deepcopy__(self, memo):
        return type(self)(self._patcher)

    def evaluate(self, net, forward, x, hint, timesteps, context, others):
        """forward(x, hint, timesteps, context, **others) of net, an IdentityNet."""
        if self._hint() is not hint:
            self._replays, self._hint = replays_of(*net.source, self._patcher), weakref.ref(hint)
            self._layers = [layer for layer in net.modules() if isinstance(layer, Remembered)]
        layers = self._layers
        keys = [hint if layer is net.input_hint_block else context for layer in layers]
        constants = [layer.results.get(key) for layer, key in zip(layers, keys, strict=True)]
        if self._replays is None or any(constant is None for constant in constants):
            return forward(x, hint, timesteps, context, **others)

        def run(changing, constants):
            x, timesteps, others = changing
            stand_ins = x.new_empty(0), x.new_empty(0)  # for hint and context: what they are asked for is known
            for layer, constant in zip(layers, constants, strict=True):
                layer.results[stand_ins[layer is not net.input_hint_block]] = constant
            return forward(x, stand_ins[0], timesteps, stand_ins[1], **others)

        return self._replays.run(run, (x, timesteps, others), constants, why_not=lambda: graph_replay.why_no_room(x.device))


def replays_of(module, patcher):
    """The Replays of a ControlNet's module, None where it cannot be captured as it is loaded now."""
    reason = graph_replay.why_not_module(module, graph_replay.graphs.device_type, patcher)
    if reason is not None:
        graph_replay.say_why_not(f"IdentityNet: {reason}")
        return None
    if module not in _of_module:
        _of_module[module] = graph_replay.Replays(graph_replay.graphs())
    _of_module[module].weights_lie_at(graph_replay.places_of(module))
    return _of_module[module]
