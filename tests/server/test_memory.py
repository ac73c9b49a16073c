"""What the pack keeps, and ComfyUI's own ways to keep less: --cache-none, and the request to free memory."""

import os
import shutil

import pytest
from conftest import DEV
from serving import demo_workflow, miniature
from serving.demo_workflow import changed


@pytest.fixture(scope="module")
def workflow(photo):
    """The demo's, without what shows the faces."""
    nodes = demo_workflow.build(photo, miniature.ADAPTER, None, None, size=128, steps=1)
    return {name: nodes[name] for name in nodes if name not in ("numbered", "save_faces", "keypoints", "save_keypoints")}


def counts(client, what):
    """{cache: its entries or misses}, of the caches that keep what nobody else holds."""
    caches = client.get("/instantid_swift/caches")
    return {name: caches[name][what] for name in ("pictures", "identities")}


def test_without_comfyuis_cache_a_photo_is_looked_at_once(forgetful, workflow):
    client = forgetful.client
    client.post("/free", {"free_memory": True})
    before = counts(client, "misses")
    for _, variant in demo_workflow.variants(workflow):
        assert not client.queue(variant).cached
    after = counts(client, "misses")
    assert {name: after[name] - before[name] for name in after} == dict.fromkeys(after, 1)


def test_a_request_to_free_memory_empties_the_caches(forgetful, workflow):
    client = forgetful.client
    client.queue(workflow)
    client.post("/free", {"unload_models": True})
    assert all(counts(client, "entries").values())
    client.post("/api/free", {"unload_models": True, "free_memory": True})  # as the editor's button does
    assert not any(counts(client, "entries").values())
    before = counts(client, "misses")
    client.queue(workflow)
    assert all(after > before[name] for name, after in counts(client, "misses").items())


def test_a_replaced_adapter_is_noticed(client, photo):
    """Under ComfyUI's default cache, which would keep the loader's output for ever."""
    folder = DEV / "models" / "instantid"
    own = folder / f"replaced_{os.getpid()}.safetensors"
    try:
        shutil.copyfile(miniature.write_adapter(folder), own)
        client.object_info("InstantIDModelLoader")
        workflow = demo_workflow.build(photo, own.name, None, None, size=128, steps=1)
        client.queue(workflow)
        assert "adapter" in client.queue(changed(workflow, "sample", seed=2)).cached
        os.utime(own)
        assert "adapter" not in client.queue(changed(workflow, "sample", seed=3)).cached
    finally:
        own.unlink(missing_ok=True)
