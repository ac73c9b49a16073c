"""Memory of a process in which people change: Apply InstantID with another photo, a sampling, and so on."""

import gc
from pathlib import Path

import pytest
import torch
from instantid_swift import caches
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest
MAPS = Path("/proc/self/maps")
ROOM = 2  # people that the caches have room for
BUDGETS = {"identities": int(ROOM * 2.4e6), "pictures": ROOM * caches.BYTES_OF_A_PICTURE}


def mapped_banks():
    """Mappings of memory without a file, as mmap makes them."""
    return MAPS.read_text().count("/dev/zero") if MAPS.exists() else 0


def memory():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]  # torch.compile's have no memory
    storages = {storage.data_ptr(): storage.nbytes() for storage in (
        tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu")}
    return {"live tensors": len(tensors), "tensor bytes": sum(storages.values()), "mapped banks": mapped_banks(),
            "cached bytes": sum(cache["bytes"] for cache in caches.statistics().values())}


@pytest.fixture(scope="module")
def figures(nodes, world):
    """{loop: memory} after so many people."""
    caches.clear()  # of what tests before have computed
    figures, generator, photo = {0: memory()}, torch.Generator().manual_seed(1), fx.portrait("a")
    with pytest.MonkeyPatch.context() as patch:
        for name, budget in BUDGETS.items():
            patch.setattr(getattr(caches, name), "_budget", budget)
            getattr(caches, name).clear()
        for loop in range(1, 7):
            person = (photo + 0.05 * torch.rand(photo.shape, generator=generator)).clamp(0, 1)
            outputs = cases.apply(nodes, world, image=person)  # ComfyUI holds a node's outputs until the next run
            fx.sample(*outputs, size=(8, 8), steps=1, batch=1 + loop % 2)
            figures[loop] = memory()
    for name in BUDGETS:
        getattr(caches, name).clear()
    return figures


def test_memory_is_flat_once_the_caches_are_full(figures):
    for what in ("cached bytes", "tensor bytes", "live tensors"):
        assert figures[6][what] == pytest.approx(figures[4][what], rel=0.001)


@pytest.mark.skipif(not MAPS.exists(), reason="the process's mappings are read as Linux tells them")
def test_banks_lie_outside_the_heap_and_go_with_their_people(figures):
    """Banks in the heap kept it from shrinking: the process grew by gigabytes as people changed."""
    banks = {loop: row["mapped banks"] - figures[0]["mapped banks"] for loop, row in figures.items()}
    assert banks[2] == 2
    assert ROOM <= banks[4] == banks[6] <= ROOM + 1  # ComfyUI holds the last person too
