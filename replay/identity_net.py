"""IdentityNet's evaluation replayed as a CUDA graph, what is constant during a run in buffers that are filled once in it."""

import weakref

from ..controlnet.constants import MemoizedLayer, with_options
from . import graphs
from .memory import run_accounted


def with_replay(*conditionings):
    """The conditionings with every IdentityNet in them replayed; those given, and their ControlNets, are not changed."""
    def options(control):
        module, = control.control_model.source
        return {"replay": Replay(graphs.replays_of(module), control.control_model_wrapped)}
    return with_options(conditionings, options)


class Replay:
    """How one IdentityNet is replayed. replays: `graphs.Replays` of the user's ControlNet module. patcher: ComfyUI's
    ModelPatcher of it."""

    def __init__(self, replays, patcher):
        self._replays, self._patcher = replays, patcher
        self._hint = graphs.dead_reference  # weak reference to the hint of the last call: another one is another run or size
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
        self._layers = [layer for layer in net.modules() if isinstance(layer, MemoizedLayer)]
        self._reason = graphs.reason_not_capturable(module, self._patcher)
        if self._reason is None:
            self._replays.drop_if_moved(graphs.weight_addresses(module))
        else:
            graphs.log_fallback(f"IdentityNet: {self._reason}")
