"""The short form of `python -m benchmarks soak`: few persons, and room for fewer."""

import pytest

from benchmarks.stages.steps import soak

ROOM = 4  # persons that the cache of identities has room for
BANK_MB = 2.4


@pytest.fixture(scope="module")
def figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soak, "BUDGET", int(ROOM * BANK_MB * 1e6))
        return dict(soak.soak(8, look_every=2))


@pytest.mark.newest
def test_a_person_keeps_few_tensors(figures):
    """140 views that each person kept were as many blocks in the heap, among those that a sampling frees."""
    assert figures[4]["live tensors"] - figures[2]["live tensors"] <= 2 * 10


@pytest.mark.newest
def test_memory_is_flat_once_the_cache_is_full(figures):
    """An embedding and the faces of each photo are kept in caches of their own."""
    assert figures[4]["cached MB"] - figures[2]["cached MB"] == pytest.approx(2 * BANK_MB, rel=0.1)
    assert figures[8]["cached MB"] - figures[6]["cached MB"] < 0.1
    assert figures[8]["tensor MB"] - figures[6]["tensor MB"] < 0.1
    assert figures[8]["live tensors"] - figures[6]["live tensors"] <= 2 * 2
    assert soak.growth(figures, 4) < 1.1
