"""IdentityNet's evaluation replayed as a CUDA graph, what is constant during a run in buffers that are filled once in it."""

import weakref

from . import graph_replay
from .capture_memory import run_accounted
from .control_constants import IdentityNet, Remembered


def with_replay(*conditionings):
    """The conditionings with every IdentityNet in them replayed; those given, and their ControlNets, are not changed."""
    copies = {}  # shared as the originals were

    def replayed(control):
        if control is None or control in copies:
            return copies.get(control)
        previous, model = replayed(control.previous_controlnet), getattr(control, "control_model", None)
        copies[control] = control
        if isinstance(model, IdentityNet) or previous is not control.previous_controlnet:
            copies[control] = control.copy().set_previous_controlnet(previous)
        if isinstance(model, IdentityNet):
            user, = model.source
            copies[control].control_model = IdentityNet.over(user, copies[control], Replay(user, control.control_model_wrapped))
        return copies[control]

    return [[[text, {**options, "control": replayed(options["control"])} if "control" in options else options]
             for text, options in conditioning] for conditioning in conditionings]


class Replay:
    """How one IdentityNet is replayed. module: the user's ControlNet module; patcher: ComfyUI's ModelPatcher of it."""

    def __init__(self, module, patcher):
        self._patcher = patcher
        self._replays = graph_replay.replays_of(module)
        self._hint = graph_replay.nothing  # weak reference to the hint of the last call: another one is another run or size
        self._reason = self._layers = None

    def __deepcopy__(self, memo):
        return self  # ComfyUI copies a whole ControlNet for another GPU: `weights_lie_at` keeps them apart

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
