"""The memory of captures as ComfyUI's memory management sees it: a model that is counted, and unloaded when memory is short."""

import weakref

import comfy.model_management
import comfy.model_patcher
import torch


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
        if unpatch_all and replays is not None:  # else it makes room for itself, being loaded again
            replays.drop()
        return self.model


def run_accounted(replays, function, changing, fixed, constants, device, needed=0):
    """`Replays.run`, which captures only where ComfyUI has memory to spare, and then lets it count and reclaim it.

    needed: bytes that a capture will take.
    """
    before = replays.captured
    result = replays.run(function, changing, fixed, constants, lambda: reason_no_memory(device, needed))
    if replays.captured != before:
        replays.memory_patcher = replays.memory_patcher or CapturesAsModel(replays, device)
        comfy.model_management.load_models_gpu([replays.memory_patcher])
    return result


def reason_no_memory(device, needed):
    """Why there is no memory for another capture, in words, or None."""
    free, reserve = comfy.model_management.get_free_memory(device), comfy.model_management.minimum_inference_memory()
    if free < needed + reserve:
        return (f"it would take memory that ComfyUI needs ({free / 1e9:.1f} GB are free, the capture takes about "
                f"{needed / 1e9:.1f} GB, ComfyUI's reserve is {reserve / 1e9:.1f} GB)")
    return None
