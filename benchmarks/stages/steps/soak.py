"""Memory of a process in which persons change: Apply InstantID with another photo, a sampling, and so on.

The models are the miniature's. Measured are the memory that the process has in the computer (RSS), the live tensors, and what
the pack's caches hold. After the first fifth of the loops the caches are full, and memory is to stay within a tenth of what it
is there.
"""

import gc
import tempfile
from pathlib import Path

import psutil
import torch
from oracle import cases
from oracle import fixtures as fx

from .transfers import NETWORKS

LOOPS, QUICK_LOOPS = 1000, 50
BUDGETS = {"identities": 64 << 20, "faces": 60_000, "embeddings": 60_000}  # bytes: caches are full early, of 30 persons
LOOK_EVERY = 25
MEGABYTE = 1e6


def add_arguments(parser):
    parser.add_argument("--loops", type=int, help=f"default: {LOOPS}, of --quick {QUICK_LOOPS}")


def run(arguments):
    """{loop: figures}, and the ratio of the largest memory from the first fifth of the loops on to that there."""
    loops = arguments.loops or (QUICK_LOOPS if arguments.quick else LOOPS)
    figures = {}
    for loop, row in soak(loops):
        if not figures:
            print("loop", *row, sep="  ", flush=True)
        print(f"{loop:4}", *(f"{value:{len(column)},.0f}" for column, value in row.items()), sep="  ", flush=True)
        figures[loop] = row
    ratio = growth(figures, loops // 5)
    print(f"\nLargest RSS from loop {loops // 5} on, as a part of that there: {ratio:.3f}")
    return {**{str(loop): row for loop, row in figures.items()}, "growth": ratio}


def growth(figures, start):
    """The largest RSS from a loop on, divided by that of the loop."""
    later = {loop: row["RSS MB"] for loop, row in figures.items() if loop >= start}
    return max(later.values()) / later[min(later)]


def soak(loops, look_every=LOOK_EVERY):
    """Yields (loop, {"RSS MB", "live tensors", "tensor MB", "cached MB"}) at each n-th loop."""
    import instantid_swift
    from instantid_swift import caches
    from instantid_swift.faces.analysis import open_face_analysis
    from instantid_swift.identity.adapter import load_adapter
    nodes = instantid_swift.NODE_CLASS_MAPPINGS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ip-adapter.bin")
        torch.save(fx.instantid_checkpoint(), path)
        inputs = {"model": fx.mini_sdxl(), "control_net": fx.mini_identity_net(), "instantid": load_adapter(str(path)),
                  "insightface": open_face_analysis([str(NETWORKS)], "CPU"), "positive": fx.conditioning(11),
                  "negative": fx.conditioning(12), "weight": 0.8, "start_at": 0.0, "end_at": 1.0}
    photo, generator = fx.portrait("a"), torch.Generator().manual_seed(1)
    usual = {name: getattr(caches, name).budget for name in BUDGETS}
    try:
        set_budgets(caches, BUDGETS)
        for loop in range(1, loops + 1):
            person = (photo + 0.05 * torch.rand(photo.shape, generator=generator)).clamp(0, 1)
            # ComfyUI holds a node's outputs until the next run
            outputs = cases.call(nodes, "ApplyInstantID", image=person, **inputs)
            fx.sample(*outputs, size=(16, 16), steps=1, batch=1 + loop % 2)
            if loop % look_every == 0:
                yield loop, look(caches)
    finally:
        set_budgets(caches, usual)


def set_budgets(caches, budgets):
    for name, budget in budgets.items():
        getattr(caches, name).budget = budget


def look(caches):
    """Figures of this moment."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    storages = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors
                                                                     if tensor.device.type == "cpu")}
    return {"RSS MB": psutil.Process().memory_info().rss / MEGABYTE, "live tensors": len(tensors),
            "tensor MB": sum(storages.values()) / MEGABYTE,
            "cached MB": sum(cache["bytes"] for cache in caches.statistics().values()) / MEGABYTE}
