"""Memory of a process in which people change: Apply InstantID with another photo, a sampling, and so on."""

import gc

import pytest
import torch
from instantid_swift import caches
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest
ROOM = 2  # people that the caches have room for
BUDGETS = {"identities": int(ROOM * 2.4e6), "pictures": ROOM * caches.BYTES_OF_A_PICTURE}


def memory():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]  # torch.compile's have no memory
    storages = {storage.data_ptr(): storage.nbytes() for storage in (
        tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu")}
    return {"live tensors": len(tensors), "tensor bytes": sum(storages.values()),
            "cached bytes": sum(cache["bytes"] for cache in caches.statistics().values())}


def test_memory_is_flat_once_the_caches_are_full(nodes, world, monkeypatch):
    for name, budget in BUDGETS.items():
        monkeypatch.setattr(getattr(caches, name), "_budget", budget)
    caches.clear()
    figures, generator, photo = {}, torch.Generator().manual_seed(1), fx.portrait("a")
    for loop in range(1, 7):
        person = (photo + 0.05 * torch.rand(photo.shape, generator=generator)).clamp(0, 1)
        outputs = cases.apply(nodes, world, image=person)  # ComfyUI holds a node's outputs until the next run
        fx.sample(*outputs, size=(8, 8), steps=1, batch=1 + loop % 2)
        figures[loop] = memory()
    caches.clear()
    for what in ("cached bytes", "tensor bytes", "live tensors"):
        assert figures[6][what] == pytest.approx(figures[4][what], rel=0.001)
