"""InstantID Cache shows what is kept and clears it."""

import pytest
from instantid_swift import caches
from instantid_swift.performance.nodes import InstantIDCache

pytestmark = pytest.mark.newest


def test_the_node_shows_the_caches_and_clears_them():
    thing = InstantIDCache
    caches.pictures.keep("key", thing)
    anything, report = InstantIDCache().manage(clear=False, anything=thing)["result"]
    assert anything is thing
    assert [line.split()[:2] for line in report.splitlines()[1:]] == [
        ["adapters", "0"], ["analyses", "0"], ["pictures", "1"], ["identities", "0"], ["sweeps", "0"]]
    InstantIDCache().manage(clear=True)
    assert caches.pictures.look_up("key") is None
