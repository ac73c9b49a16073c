"""The performance report in ComfyUI's own queue and executor: what it is told there, and that anything goes through it."""

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
from instantid_swift.performance import stages
from instantid_swift.performance.nodes import InstantIDPerformanceReport


class Stages:
    """A node with stages, in place of those with networks."""
    RETURN_TYPES = ("IMAGE", ["one", "another"])
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"size": ("INT", {"default": 8})}})

    def work(self, size):
        with stages.stage("apply"), stages.stage("detect"):
            stages.count_lookup("detect", False)
        return torch.full((1, size, size, 3), 0.25), "another"


class Several:
    """A node whose output is a list."""
    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

    def work(self):
        return [1, 2, 3],


class Keep:
    """A node at the end, with typed inputs: what has arrived there."""
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"optional": {
        "image": ("IMAGE",), "number": ("INT",), "table": ("STRING", {"forceInput": True}), "choice": (["one", "another"],)}})
    kept = []

    def work(self, **inputs):
        self.kept.append(inputs)
        return {}


@pytest.fixture
def prompts(monkeypatch, tmp_path):
    """prompts(prompt): runs it as ComfyUI's worker does, on its queue; gives what `Keep` got, by call."""
    monkeypatch.setattr(stages, "_session", stages._Session())
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    for node in (Stages, Several, Keep, InstantIDPerformanceReport):
        monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, node.__name__, node)
    loop = asyncio.new_event_loop()
    prompt_server = server.PromptServer(loop)
    executor = execution.PromptExecutor(prompt_server, cache_type=execution.CacheType.CLASSIC,
                                        cache_args={"lru": 0, "ram": 0, "ram_inactive": 0})

    def run(prompt):
        prompt_id = str(uuid.uuid4())
        valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(prompt_id, prompt, None))
        assert valid and not node_errors, (error, node_errors)
        prompt_server.prompt_queue.put((0, prompt_id, prompt, {}, outputs, {}))
        item, item_id = prompt_server.prompt_queue.get()
        Keep.kept.clear()
        executor.execute(item[2], prompt_id, item[3], item[4])
        assert executor.success, executor.status_messages
        prompt_server.prompt_queue.task_done(item_id, executor.history_result, None)
        return list(Keep.kept)

    yield run
    loop.close()


def node(kind, **inputs):
    return {"class_type": kind.__name__, "inputs": inputs}


def with_report(size=8):
    return {"work": node(Stages, size=size), "report": node(InstantIDPerformanceReport, anything=["work", 0]),
            "keep": node(Keep, image=["report", 0], table=["report", 1])}


@pytest.mark.parametrize("other", ["IMAGE", "MODEL", "INT", "STRING,INT", ["a", "choice"], "COMBO"])
def test_the_wildcard_fits_both_ways(other):
    kind = InstantIDPerformanceReport
    wanted, given = kind.INPUT_TYPES()["required"]["anything"][0], kind.RETURN_TYPES[0]
    assert validate_node_input(other, wanted) and validate_node_input(given, other)
    assert json.dumps([wanted, given]) == '["*", "*"]'  # as the editor gets them


def test_a_run_is_reported_and_the_input_goes_through(prompts):
    kept, = prompts(with_report())
    assert torch.equal(kept["image"], torch.full((1, 8, 8, 3), 0.25))
    lines = [line.split() for line in kept["table"].splitlines()]
    assert lines[1][:2] == ["apply", "1"] and lines[2][:2] == ["detect", "1"] and lines[2][-1] == "miss"


def test_it_runs_again_and_says_that_nothing_else_has(prompts):
    prompts(with_report())
    kept, = prompts(with_report())
    assert kept["table"].startswith("No stage of InstantID has run")
    kept, = prompts(with_report(size=16))
    assert "detect" in kept["table"]


def test_it_may_end_a_graph(prompts):
    prompts({"work": node(Stages, size=8), "report": node(InstantIDPerformanceReport, anything=["work", 1])})
    assert set(stages._session.last.stages) == {"apply", "detect"}


def test_a_list_goes_through_with_one_report(prompts):
    kept = prompts({"several": node(Several), "report": node(InstantIDPerformanceReport, anything=["several", 0]),
                    "keep": node(Keep, number=["report", 0], table=["report", 1])})
    assert [inputs["number"] for inputs in kept] == [1, 2, 3]
