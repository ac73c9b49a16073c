"""What `python dev/gpu.py` checks and measures: a stage is a function that runs in a process of its own."""

from typing import NamedTuple

# How ComfyUI may manage a GPU's memory: with one of PyTorch's allocators, its default being the second; since 0.30 with
# dynamic VRAM over that
ALL = NATIVE, ASYNC, DYNAMIC = "native", "cudaMallocAsync", "dynamic VRAM"


class Stage(NamedTuple):
    """function: "module:name" in this folder, called with (Report, Settings). memory: it runs once with each of these."""
    function: str
    title: str  # what it shows, for the verdict
    memory: tuple = (NATIVE, ASYNC)


STAGES = {  # the most important first
    "exact": Stage("exactness:exact", "Exact mode has the formula's bits"),
    "adapter": Stage("exactness:adapter", "An identity is projected without loading the adapter", ALL),
    "oracle": Stage("exactness:oracle", "The original's workflows give the original's latents"),
    "compile": Stage("speed:compiled", "torch.compile makes no graph again for another weight", (NATIVE,)),
    "times 1024": Stage("speed:times_1024", "Times at 1024 x 1024", (NATIVE,)),
    "times 512": Stage("speed:times_512", "Times at 512 x 512", (NATIVE,)),
    "faces": Stage("speed:faces", "Faces are found on CUDA", (NATIVE,)),
}


def runs(device):
    """(name of a run, name of its stage, memory) in their order; on a CPU there is nothing to choose."""
    if device == "cpu":
        return [(name, name, None) for name in STAGES]
    return [(f"{name}, {memory}", name, memory) for name, stage in STAGES.items() for memory in stage.memory]
