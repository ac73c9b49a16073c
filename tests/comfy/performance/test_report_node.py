"""The performance report in ComfyUI's own queue and executor, through which anything goes; and what InstantID Cache shows."""

import asyncio
import json
import uuid

import execution
import folder_paths
import nodes as comfy_nodes
import pytest
import server
import torch
from comfy_execution.validation import validate_node_input
from instantid_swift import caches
from instantid_swift.performance import stages
from instantid_swift.performance.nodes import InstantIDCache, InstantIDPerformanceReport


class Stages:
    """A node with stages, in place of those with networks."""
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"size": ("INT", {"default": 8})}})

    def work(self, size):
        with stages.stage("apply"), stages.stage("detect"):
            stages.count_lookup("detect", False)
        return torch.full((1, size, size, 3), 0.25),


class Keep:
    """A node at the end, with typed inputs: what has arrived there."""
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"optional": {
        "image": ("IMAGE",), "table": ("STRING", {"forceInput": True})}})
    kept = []

    def work(self, **inputs):
        self.kept.append(inputs)
        return {}


@pytest.fixture
def prompts(monkeypatch, tmp_path):
    """prompts(size): runs a graph as ComfyUI's worker does, on its queue; gives what `Keep` got."""
    monkeypatch.setattr(stages, "_session", stages._Session())
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    for node in (Stages, Keep, InstantIDPerformanceReport):
        monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, node.__name__, node)
    loop = asyncio.new_event_loop()
    prompt_server = server.PromptServer(loop)
    executor = execution.PromptExecutor(prompt_server, cache_type=execution.CacheType.CLASSIC,
                                        cache_args={"lru": 0, "ram": 0, "ram_inactive": 0})

    def run(size):
        prompt = {number: {"class_type": kind.__name__, "inputs": inputs} for number, kind, inputs in (
            ("work", Stages, {"size": size}), ("report", InstantIDPerformanceReport, {"anything": ["work", 0]}),
            ("keep", Keep, {"image": ["report", 0], "table": ["report", 1]}))}
        prompt_id = str(uuid.uuid4())
        valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(prompt_id, prompt, None))
        assert valid and not node_errors, (error, node_errors)
        prompt_server.prompt_queue.put((0, prompt_id, prompt, {}, outputs, {}))
        item, item_id = prompt_server.prompt_queue.get()
        Keep.kept.clear()
        executor.execute(item[2], prompt_id, item[3], item[4])
        assert executor.success, executor.status_messages
        prompt_server.prompt_queue.task_done(item_id, executor.history_result, None)
        return Keep.kept[0]

    yield run
    loop.close()


@pytest.mark.parametrize("other", ["IMAGE", "MODEL", "INT", "STRING,INT", ["a", "choice"]])
def test_the_wildcard_fits_both_ways(other):
    kind = InstantIDPerformanceReport
    wanted, given = kind.INPUT_TYPES()["required"]["anything"][0], kind.RETURN_TYPES[0]
    assert validate_node_input(other, wanted) and validate_node_input(given, other)
    assert json.dumps([wanted, given]) == '["*", "*"]'  # as the editor gets them


def test_a_run_is_reported_and_the_input_goes_through(prompts):
    kept = prompts(8)
    assert torch.equal(kept["image"], torch.full((1, 8, 8, 3), 0.25))
    lines = {line.split()[0]: line.split()[1:] for line in kept["table"].splitlines()[:3]}
    assert lines["apply"][0] == lines["detect"][0] == "1"
    assert lines["apply"][-1] == "-" and lines["detect"][-3:] == ["0", "of", "1"]
    assert prompts(8)["table"].startswith("No step of InstantID has run") and "detect" in prompts(16)["table"]


@pytest.mark.newest
def test_the_node_shows_the_caches_and_clears_them():
    thing = InstantIDCache
    caches.pictures.keep("key", thing)
    anything, report = InstantIDCache().manage(clear=False, anything=thing)["result"]
    assert anything is thing
    rows = [line.split() for line in report.splitlines()[1:]]
    assert ["pictures", "1"] in [row[:2] for row in rows] and not any(set(row[1:]) <= {"0", "0.0"} for row in rows)
    InstantIDCache().manage(clear=True)
    assert caches.pictures.look_up("key") is None
