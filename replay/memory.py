"""Captures and ComfyUI's memory management: room for a capture, captures as a model that is counted and unloaded, and weights
that stay where they are for the time of a call."""

import contextlib
import weakref

import comfy.model_management
import comfy.model_patcher
import torch

from . import graphs
from .policy import is_dynamic


class CapturesAsModel(comfy.model_patcher.ModelPatcher):
    """A model as large as the captures of one module (`graphs.Replays`); to unload it is to drop them."""

    def __init__(self, replays, device):
        super().__init__(torch.nn.Module(), load_device=device, offload_device=torch.device("cpu"))
        self._replays = weakref.ref(replays)  # which refers to this

    def model_size(self):
        replays = self._replays()
        return 0 if replays is None else replays.bytes

    def loaded_size(self):
        return self.model_size()

    def partially_load(self, *args, **kwargs):
        return 0

    def partially_unload(self, *args, **kwargs):
        freed = self.model_size()
        self.detach()
        return freed

    def detach(self, unpatch_all=True):
        replays = self._replays()
        if replays is not None:
            replays.drop()
        return self.model


def count(replays, device):
    """Has ComfyUI count the captures of a module, and take their memory back before it unloads other models.

    ComfyUI's own way to load a model would make room for the captures, which they already have: it would unload the UNet that
    is being sampled.
    """
    loaded = comfy.model_management.current_loaded_models
    patcher = replays.memory_patcher = replays.memory_patcher or CapturesAsModel(replays, device)
    if not any(model.model is patcher for model in loaded):
        entry = comfy.model_management.LoadedModel(patcher)
        entry.real_model = weakref.ref(patcher.model)
        entry.model_finalizer = weakref.finalize(patcher.model, comfy.model_management.cleanup_models)
        entry.model_finalizer.atexit = False
        loaded.insert(0, entry)


@contextlib.contextmanager
def weights_held(patcher):
    """Keeps a model's weights in the GPU's memory for the time of a call.

    Yields what is equal to the last call's where they have stayed there in between, or None where they do not fit all at once.
    Under dynamic VRAM they lie in one range of virtual memory, whose pages of 32 MB come and go: `fault` maps and pins all of
    them and gives each one's serial number (comfy-aimdo's src/model-vbar.c). A page's pin is no count: an ordinary call, whose
    parts pin and unpin pages for themselves, leaves none pinned.
    """
    vbar = patcher.model.dynamic_vbars.get(patcher.load_device) if is_dynamic(patcher) else None
    if vbar is None:
        yield b""
        return
    whole = vbar.base_addr, vbar.offset
    serials = vbar.fault(*whole)
    if serials is None:
        yield None
        return
    try:
        yield bytes(serials)
    finally:
        vbar.unpin(*whole)


def run_accounted(sampling, module, patcher, function, changing, fixed, constants, device):
    """`Replays.run` of a module, which captures only where ComfyUI has memory to spare, and then has ComfyUI count it.

    sampling: the `policy.Sampling`, which has allowed it. patcher: ComfyUI's ModelPatcher of the module.
    """
    replays = graphs.replays_of(module)
    with weights_held(patcher) as pages:
        if pages is None:
            sampling.tell("the weights do not fit into the GPU's memory all at once")
            return function(changing, fixed)
        replays.drop_if_moved((sampling.addresses(module), pages))
        before = replays.captured
        result = replays.run(function, changing, fixed, constants, lambda: why_no_room(patcher, device, sampling.needed),
                             sampling.tell)
    if replays.captured != before:
        count(replays, device)
    return result


def why_no_room(patcher, device, needed):
    """Why there is no memory for another capture, in words, or None. needed: bytes that the sampling's largest UNet call takes.

    A capture holds about as much. With less than 1.5 times `needed` left free ComfyUI would run a step's two passes one after
    the other (`_calc_cond_batch`), which takes twice the time and changes last bits.
    """
    free_of = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)
    free, reserve = free_of(device) - graphs.idle_bytes(), comfy.model_management.minimum_inference_memory()
    if free - needed < 1.5 * needed + reserve:
        return (f"it would take memory that ComfyUI needs ({free / 1e9:.1f} GB are free, a capture and the sampling take about "
                f"{2.5 * needed / 1e9:.1f} GB, ComfyUI's reserve is {reserve / 1e9:.1f} GB)")
    return None
