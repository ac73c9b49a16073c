"""InstantID Cache: how long its settings last."""

import sys
from types import SimpleNamespace

import pytest
from instantid_swift import caches
from instantid_swift.reporting import nodes as reporting_nodes
from instantid_swift.timing import stages

pytestmark = pytest.mark.newest


@pytest.fixture
def queue(monkeypatch):
    """queue(prompt id, *class types): ComfyUI's server runs a prompt of such nodes."""
    running = []
    instance = SimpleNamespace(prompt_queue=SimpleNamespace(get_current_queue_volatile=lambda: (list(running), [])))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))

    def run(prompt_id, *class_types):
        running[:] = [(0, prompt_id, {str(number): {"class_type": name} for number, name in enumerate(class_types)})]
        with stages.stage("apply"):
            pass
    yield run
    reporting_nodes._undo_settings()


def test_the_cache_nodes_settings_end_with_the_node(queue):
    """They were kept until the process ended, though the node was taken out of the workflow."""
    node, recorded = reporting_nodes.InstantIDCache(), stages._session
    settings = {cache.name: 1 for cache in caches.ALL}
    queue("first", "InstantIDCache", "ApplyInstantID")
    node.manage(clear=False, record_timings=True, **settings)
    queue("second", "InstantIDCache", "ApplyInstantID")
    assert {cache.budget for cache in caches.ALL} == {caches.MIB} and recorded.current() is not None
    queue("third", "ApplyInstantID")
    assert [cache.budget for cache in caches.ALL] == [cache.default_budget for cache in caches.ALL]
    assert recorded.current() is None
