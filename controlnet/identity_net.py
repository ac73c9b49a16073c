"""IdentityNet, which computes once for each size of the latents, not at every step, what does not change during a run.

These are the features of its hint, the drawn keypoints, and K and V of its 34 cross-attention blocks over the identity
tokens. They are freed at the end of the run, when ComfyUI frees the hints that it has scaled for the ControlNet.
"""

import collections
import copy
import weakref

import comfy.cldm.cldm
import comfy.controlnet
import torch

from ..caches import MemoizedLayer, RecentCache, TensorDictionary, tensor_key
from .people import PeopleAttention, PeopleContext, SharesOnGrids

KEPT_HINTS = 4     # areas of different sizes alternate within a step
KEPT_CONTEXTS = 4  # and so may cond and uncond
CONSTANT_LAYERS = ("input_hint_block", "attn2.to_k", "attn2.to_v")


def with_cached_constants(control, people=None):
    """Returns the given ControlNet with an IdentityNet over the same weights as its model; kinds other than ComfyUI's own for
    SD and SDXL stay as they are.

    people: `people.RegionalPeople`, if several are to be read, each in a part of the picture. Other kinds of ControlNets
    cannot do that; `check_reads_people` refuses them.

    The object remains a plain comfy.controlnet.ControlNet: Advanced-ControlNet turns exactly those into ones that follow
    AnimateDiff's windows, and AnimateDiff refuses all others.
    """
    if is_plain(control):
        control.control_model = IdentityNet.from_model(control.control_model, control, people=people)
    return control


def is_plain(control):
    """Returns whether a ControlNet is ComfyUI's own for SD and SDXL, whose model an IdentityNet can replace."""
    return type(control) is comfy.controlnet.ControlNet and type(control.control_model) is comfy.cldm.cldm.ControlNet


def with_changed_nets(conditionings, changes):
    """Returns conditionings in which every IdentityNet is a new one with some arguments changed; those given, and the
    ControlNets in them, are not changed.

    changes: function(ControlNet) -> changed arguments of `IdentityNet.from_model`.
    """
    copies = {}  # shared as the originals were

    def replaced(control):
        if control is None or control in copies:
            return copies.get(control)
        previous, model = replaced(control.previous_controlnet), getattr(control, "control_model", None)
        copies[control] = control
        if isinstance(model, IdentityNet) or previous is not control.previous_controlnet:
            copies[control] = control.copy().set_previous_controlnet(previous)
        if isinstance(model, IdentityNet):
            user, = model.source
            as_before = {"reuse": copy.deepcopy(model.reuse), "people": model.people}
            copies[control].control_model = IdentityNet.from_model(user, copies[control], **{**as_before, **changes(control)})
        return copies[control]

    return [[[text, {**rest, "control": replaced(rest["control"])} if "control" in rest else rest]
             for text, rest in conditioning] for conditioning in conditionings]


class IdentityNet(comfy.cldm.cldm.ControlNet):
    """A ControlNet made of another one's layers, which ComfyUI's memory management still moves, casts and patches.

    At SDXL's size in 16 bits it keeps, for each size of the latents, 10.5 MB for a hint of 1024 x 1024 pixels, and 2.6 MB for
    each 16 identity tokens, which for one picture with both passes comes to 5.2 MB.
    """

    @classmethod
    def from_model(cls, model, control, reuse=None, people=None):
        """Returns an IdentityNet of the layers of a comfy.cldm.cldm.ControlNet, which is not changed.

        control: the ControlNet that will call it. reuse: `step_reuse.StepReuse`, if some evaluations are to be left out.
        people: `people.RegionalPeople`, if there are several.
        """
        net = cls.__new__(cls)
        net.__dict__.update(_with_memoized_layers(model, people).__dict__, hints=Hints(weakref.ref(control)), reuse=reuse,
                            people=people, source=(model,))
        if people is not None:
            net.shares = MemoizedLayer(SharesOnGrids(people, len(model.channel_mult)))
        return net

    def forward(self, x, hint, timesteps, context, **others):
        if not torch.is_grad_enabled():
            hint, context = self.hints.canonical(hint, context)
            if self.reuse is not None:
                return self.reuse.residuals(self, x, hint, timesteps, context, others)
        return self.evaluate(x, hint, timesteps, context, **others)

    def evaluate(self, x, hint, timesteps, context, **others):
        """Returns the residuals of one evaluation: {"middle": [1 tensor], "output": [9 tensors]}, which the caller may change.

        hint, context: during a run the same objects wherever their content is the same.
        """
        if self.people is None:
            return super().forward(x, hint, timesteps, context, **others)
        shares = self.shares(context, *x.shape[2:])
        residuals = super().forward(x, hint, timesteps, PeopleContext(context, shares), **others)
        return self.people.scaled(residuals, shares, timesteps)


class HintRecord:
    """A hint and its contexts, as the tensor objects for which results are kept."""

    def __init__(self, hint):
        self.hint = hint.detach()  # another object, so that ComfyUI's is freed
        self._contexts = RecentCache(KEPT_CONTEXTS)

    def context(self, given, key):
        """Returns the first of the contexts with the same key: [b, tokens, 2048]."""
        # another object for each hint, too: results that depend on the latents' size may be kept for it
        return self._contexts.get_or_make((given.device, key), given.detach)


class Hints:
    """The hints of a ControlNet's run, one for each size of the latents.

    Hints and contexts are compared by content. With several hints, or at each change of the latents' size, ComfyUI makes
    another tensor of the same hint; it concatenates contexts anew at each step, and one cond's id may stand for other tokens
    in another area or context window. 64 KB of tokens for each pass are read from the device, at a moment when ComfyUI has just
    waited for the noise level. Hints are compared on the device, and the answers are read with the tokens.

    control: weak reference to the ControlNet whose runs are watched. Hints of its copies are kept only as long as they exist.
    A deep copy is empty.
    """

    def __init__(self, control):
        self._control = control
        self._record_of_hint = TensorDictionary()
        self._run_records = collections.deque(maxlen=KEPT_HINTS)
        self._run = None
        self._watched = TensorDictionary()  # {ComfyUI's hint: its finalizer}

    def __deepcopy__(self, memo):
        return type(self)(self._control)

    @property
    def run(self):
        """An object that is a new one in each run, or None outside of a run."""
        control = self._control()
        return None if control is None else control.timestep_range

    def canonical(self, hint, context):
        """Returns the first hint and the first context of the run with the same content: (hint, context)."""
        if hint in self._record_of_hint:
            record, key = self._record_of_hint[hint], tensor_key(context)
        else:
            if self.run is not self._run:
                self._run = self.run
                self._run_records.clear()
            alike = [record for record in self._run_records
                     if (record.hint.shape, record.hint.dtype, record.hint.device) == (hint.shape, hint.dtype, hint.device)]
            same, key = answers_and_key([(record.hint == hint).all() for record in alike], context)
            record = next((record for record, answer in zip(alike, same, strict=True) if answer), None)
            self._record_of_hint[hint] = record = record or HintRecord(hint)
            self._keep(record, hint)
        return record.hint, record.context(context, key)

    def _keep(self, record, hint):
        """Keeps a record until the run ends, if the ControlNet holds the run's hint: this one or, in a newer ComfyUI, those
        from which it makes a hint for each batch."""
        control = self._control()
        if control is None:
            return
        held = [hint] if control.cond_hint is hint else list(getattr(control, "cond_hints", {}).values())
        for kept in held:
            if kept not in self._watched:
                self._watched[kept] = weakref.finalize(kept, self._hint_is_gone)
                self._watched[kept].atexit = False
        if held and record not in self._run_records:
            self._run_records.append(record)

    def _hint_is_gone(self):
        """Drops the records if the run is over. It may also go on at another size and come back to that of the freed hint."""
        control = self._control()
        if control is None or control.model_sampling_current is None:
            self._run_records.clear()


def answers_and_key(answers, tensor):
    """Returns a list of bool and the `tensor_key` of a tensor, read from the device together.

    answers: bool tensors without dimensions, on the tensor's device.
    """
    if not answers:
        return [], tensor_key(tensor)
    parts = tensor.detach().flatten(), torch.stack(answers)
    read = torch.cat([part.view(torch.uint8) for part in parts]).cpu()
    content, answers = read.split([len(read) - len(answers), len(answers)])
    return answers.tolist(), tensor_key(content.view(tensor.dtype).view(tensor.shape))


def _with_memoized_layers(module, people=None, name=""):
    """Returns a copy of a module whose constant layers keep their results, and whose cross-attention reads several people if
    there are any. Submodules without such layers are shared with the given module."""
    if name.endswith(CONSTANT_LAYERS):
        return MemoizedLayer(module)
    if people is not None and name.endswith("attn2"):
        return PeopleAttention(module, people)
    children = {key: child and _with_memoized_layers(child, people, f"{name}.{key}") for key, child in module._modules.items()}
    if all(children[key] is child for key, child in module._modules.items()):
        return module
    twin = copy.copy(module)  # shares the dictionary of its own weights, in which they may be replaced
    twin._modules = children
    return twin
