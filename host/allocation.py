"""ComfyUI's compiler, which plans a forward's memory from a recording of its allocations."""

import contextlib
import sys


def outside_of_recordings():
    """Returns a context for making what outlives a forward: ComfyUI's compiler ends a run in which that is recorded.

    Contexts of one thread are not nested. ComfyUI before 0.34 has no such compiler.
    """
    pause = getattr(sys.modules.get("comfy.model_prefetch"), "pause_malloc_graph", contextlib.nullcontext)
    return pause()
