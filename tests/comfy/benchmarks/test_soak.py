"""The short form of `python -m benchmarks soak`: few persons, and caches that have room for fewer."""

from pathlib import Path

import pytest

from benchmarks.stages.steps import soak

pytestmark = pytest.mark.newest
MAPS = Path("/proc/self/maps")
ROOM = 3  # persons that the caches have room for
BUDGETS = {"identities": int(ROOM * 2.4e6), "faces": ROOM * 2000, "embeddings": ROOM * 2048}


def mapped_banks():
    """Mappings of memory without a file, as mmap makes them."""
    return MAPS.read_text().count("/dev/zero") if MAPS.exists() else None


@pytest.fixture(scope="module")
def figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soak, "BUDGETS", BUDGETS)
        before = mapped_banks()
        return {loop: {**row, "banks": MAPS.exists() and mapped_banks() - before} for loop, row in soak.soak(8, look_every=2)}


def test_memory_is_flat_once_the_caches_are_full(figures):
    for column in ("cached MB", "tensor MB", "live tensors"):
        assert figures[8][column] == pytest.approx(figures[4][column], rel=0.001)
    assert soak.growth(figures, 4) < 1.1


@pytest.mark.skipif(not MAPS.exists(), reason="the process's mappings are read as Linux tells them")
def test_banks_lie_outside_the_heap_and_go_with_their_persons(figures):
    """Banks in the heap kept it from shrinking: the process grew by gigabytes as persons changed."""
    assert figures[2]["banks"] == 2
    assert ROOM <= figures[6]["banks"] == figures[8]["banks"] <= ROOM + 1  # ComfyUI holds the last person too
