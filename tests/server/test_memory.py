"""What the pack keeps, and ComfyUI's own ways to keep less: --cache-none, and the request to free memory."""

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import DEV
from oracle import fixtures as fx
from photos import write_image
from serving import demo_workflow, miniature
from serving.demo_workflow import changed
from serving.server import Server


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A server that keeps no node's output, and folders of models that this module may change."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(DEV / "models" / "insightface", models / "insightface")
    (models / "instantid").mkdir()
    shutil.copyfile(miniature.write_adapter(DEV / "models" / "instantid"), models / "instantid" / miniature.ADAPTER)
    with Server(Path(os.environ["INSTANTID_COMFYUI"]), models=models, cpu=True, arguments=("--cache-none",),
                log=tmp_path_factory.mktemp("server") / "log") as server:
        yield server, models


@pytest.fixture(scope="module")
def workflow(forgetful, tmp_path_factory):
    photo = forgetful[0].client.upload_image(write_image(tmp_path_factory.mktemp("photos") / "a.png", fx.portrait("a")))
    return demo_workflow.build(photo, miniature.ADAPTER, None, None, size=128, steps=1)


def misses(client):
    return {name: of["misses"] for name, of in caches(client).items()}


def caches(client):
    """The caches that keep what nobody else holds."""
    return {name: of for name, of in client.get("/instantid_swift/caches").items() if name in ("pictures", "identities")}


def test_without_comfyuis_cache_a_photo_is_looked_at_once(forgetful, workflow):
    client = forgetful[0].client
    client.post("/free", {"free_memory": True})
    before = misses(client)
    for _, variant in demo_workflow.variants(workflow):
        assert not client.queue(variant).cached
    after = misses(client)
    assert {name: after[name] - before[name] for name in after} == dict.fromkeys(after, 1)


def test_a_request_to_free_memory_empties_the_caches(forgetful, workflow):
    client = forgetful[0].client
    client.queue(workflow)
    client.post("/free", {"unload_models": True})
    assert all(of["entries"] for of in caches(client).values())
    client.post("/api/free", {"unload_models": True, "free_memory": True})  # as the editor's button does
    assert not any(of["entries"] for of in caches(client).values())
    before = misses(client)
    client.queue(workflow)
    assert all(after > before[name] for name, after in misses(client).items())


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


def test_the_performance_report_of_a_workflow(client, photo):
    """With everything forgotten first, and with only the weight changed."""
    workflow = demo_workflow.build(photo, miniature.ADAPTER, None, None, size=128, steps=2)
    workflow["cache"] = demo_workflow.node("InstantIDCache", clear=True, anything=["photo", 0])
    workflow["apply"]["inputs"]["image"] = ["cache", 0]
    workflow["report"] = demo_workflow.node("InstantIDPerformanceReport", anything=["sample", 0])
    workflow["decode"]["inputs"]["samples"] = ["report", 0]
    for clear, result in ((True, "miss"), (False, "hit")):
        run = client.queue(changed(workflow, "cache", clear=clear))
        table = {cells[0]: cells for cells in (re.split(" {2,}", line)
                                               for line in run.outputs["report"]["text"][0].splitlines())}
        assert {"apply", "hash", "detect", "embed", "project", "UNet call"} <= set(table)
        assert table["project"][-1] == result and table["UNet call"][1] == "2"
