"""What `python dev/gpu.py` checks and measures: a stage is a function that runs in a process of its own."""

from typing import NamedTuple

NATIVE, ASYNC = "native", "cudaMallocAsync"  # PyTorch's allocators; ComfyUI's default on CUDA is the second


class Stage(NamedTuple):
    """function: "module:name" in this folder, called with (Report, Settings). allocators: it runs once with each."""
    function: str
    title: str  # what it shows, for the verdict
    allocators: tuple = (NATIVE, ASYNC)


STAGES = {  # the most important first
    "exact": Stage("exactness:exact", "Exact mode has the formula's bits"),
    "replay": Stage("replaying:equal", "Replayed pictures are the ordinary ones"),
    "adapter": Stage("exactness:adapter", "An identity is projected without loading the adapter"),
    "cancel": Stage("replaying:cancel", "After Cancel in a capture the next picture is right"),
    "pressure": Stage("replaying:pressure", "When memory is short captures go, and pictures stay right"),
    "fused": Stage("exactness:fused", "Fused attention is within its error"),
    "oracle": Stage("exactness:oracle", "The original's workflows give the original's latents"),
    "soak": Stage("replaying:soak", "Mixed items leave no memory behind"),
    "compile": Stage("speed:compiled", "torch.compile makes no graph again for another weight", (NATIVE,)),
    "times 1024": Stage("speed:times_1024", "Times at 1024 x 1024", (NATIVE,)),
    "times 512": Stage("speed:times_512", "Times at 512 x 512", (NATIVE,)),
    "faces": Stage("speed:faces", "Faces are found on CUDA", (NATIVE,)),
}


def runs(device):
    """(name of a run, name of its stage, allocator) in their order; on a CPU there is one allocator."""
    if device == "cpu":
        return [(name, name, None) for name in STAGES]
    return [(f"{name}, {allocator}", name, allocator) for name, stage in STAGES.items() for allocator in stage.allocators]
