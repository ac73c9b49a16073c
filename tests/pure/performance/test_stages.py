"""What is recorded of a run, when, and that nothing is where nobody asks."""

import itertools
import sys
from types import SimpleNamespace

import pytest
import torch
from instantid_swift.performance import count_lookup, run, stage, stages
from instantid_swift.performance.stages import NOTHING, table_of_stages


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """A session of its own for each test."""
    monkeypatch.setattr(stages, "_session", stages._Session())
    return stages._session


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is a second later at each look."""
    monkeypatch.setattr(stages, "perf_counter", itertools.count(0.0).__next__)


def times(recorded):
    return {name: (row.calls, row.own) for name, row in recorded.stages.items()}


def test_where_nobody_asks_nothing_is_recorded():
    with stage("detect", gpu=True):
        count_lookup("detect", True)
    assert stage("detect") is stage("embed")
    assert table_of_stages(stages.last_run()) == NOTHING


def test_inner_stages_are_not_counted_twice(ticking):
    """Nor is a stage inside of itself; an exception ends a stage."""
    with run() as recorded, pytest.raises(ZeroDivisionError):
        with stage("apply"):
            for _ in range(2):
                with stage("hash"):
                    pass
            with stage("detect"), stage("hash"), stage("hash"):
                raise ZeroDivisionError
    assert times(recorded) == {"apply": (1, 4), "hash": (4, 5), "detect": (1, 2)}
    assert all(row.memory > 0 for row in recorded.stages.values())


def test_the_slowest_stage_comes_first(ticking):
    with run() as recorded:
        with stage("quick"):
            pass
        with stage("slow"), stage("inner"):
            pass
    assert [line.split()[0] for line in table_of_stages(recorded).splitlines()[1:4]] == ["slow", "quick", "inner"]


@pytest.mark.parametrize("lookups, text", [
    ([True], "1 of 1"), ([True, False, True], "2 of 3"), ([False, False], "0 of 2")])
def test_cache_results_stand_beside_their_stage(lookups, text):
    with run() as recorded, stage("project", cache="identities"):
        for hit in lookups:
            count_lookup("identities", hit)
        count_lookup("IdentityNet steps", True)
    lines = table_of_stages(recorded).splitlines()
    assert lines[1].startswith("project") and lines[1].endswith(f" {text}")
    assert lines[2].split()[:2] == ["all", "steps"] and "GPU" not in lines[0]
    assert lines[4] == "From the cache: IdentityNet steps, 1 of 1.", "a cache without a stage"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_time_and_memory_of_the_gpu():
    torch.cuda.init()
    with run() as recorded, stage("apply"):
        with stage("project", gpu=True):
            large = torch.ones(64 << 20, device="cuda")  # 256 MiB
        del large
    assert recorded.stages["project"].gpu_seconds() > 0 and recorded.stages["apply"].gpu_seconds() is None
    assert recorded.stages["project"].memory >= recorded.stages["apply"].memory + (256 << 20)


def test_prompts_with_a_report_are_recorded_and_no_others(monkeypatch):
    """Where the queue says what runs; ComfyUI's own is in the comfy ring."""
    running = []
    queue = SimpleNamespace(get_current_queue_volatile=lambda: (running, []))
    instance = SimpleNamespace(instance=SimpleNamespace(prompt_queue=queue))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=instance))
    for prompt_id, kind, calls in (("one", "KSampler", 0), ("two", stages.NODE, 2), ("three", "KSampler", 2),
                                   ("four", stages.NODE, 2)):
        running[:] = [(0, prompt_id, {"1": {"class_type": kind, "inputs": {}}}, {}, [])]
        for _ in range(2):
            with stage("detect"):
                pass
        assert (stages.last_run().stages["detect"].calls if stages.last_run() else 0) == calls
