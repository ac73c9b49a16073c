"""What is recorded of a run, when, and that nothing is where nobody asks."""

import itertools
import json
import sys
import threading
import types

import pytest
import torch
from instantid_swift.reporting.report import report
from instantid_swift.reporting.table import table
from instantid_swift.timing import stages
from instantid_swift.timing.history import seconds_of
from instantid_swift.timing.stages import cache_result, run, stage


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """A session of its own for each test."""
    monkeypatch.setattr(stages, "_session", stages._Session())
    return stages._session


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is a second later at each look."""
    monkeypatch.setattr(stages, "perf_counter", itertools.count(0.0).__next__)


def by_name(rows):
    return {row.name: row for row in rows}


# ---- what is recorded


def test_where_nobody_asks_a_stage_runs_no_code_of_torch():
    """No device is asked and nothing waits: besides ours, only the look at the modules loaded runs."""
    called = []

    def note(frame, event, argument):
        if event == "call":
            called.append(frame.f_globals["__name__"])
        elif event == "c_call":
            called.append(argument.__module__ or type(argument.__self__).__name__)

    sys.setprofile(note)
    try:
        with stage("detect", gpu=True):
            cache_result("detect", True)
    finally:
        sys.setprofile(None)
    assert stages.__name__ in called
    assert set(called) <= {stages.__name__, "instantid_swift.host.server", "builtins", "dict", "contextlib", "sys"}
    assert stage("detect") is stage("embed")
    assert report().rows == [] and "No stage of InstantID has run" in report().table


def test_inner_stages_are_not_counted_twice(ticking):
    with run() as recorded:
        with stage("apply"):
            for _ in range(2):
                with stage("hash"):
                    pass
            with stage("detect"), stage("hash"):
                pass
    rows = recorded.rows()
    assert [row.name for row in rows] == ["apply", "hash", "detect"]
    assert [(row.calls, row.own, row.total) for row in rows] == [(1, 4, 9), (3, 3, 3), (1, 2, 3)]
    assert sum(row.own for row in rows) == rows[0].total


def test_a_stage_inside_of_itself_has_one_total(ticking):
    with run() as recorded, stage("look"), stage("look"):
        pass
    row, = recorded.rows()
    assert (row.calls, row.own, row.total) == (2, 3, 3)


def test_times_of_the_gpu_pass_over_stages_that_are_not_timed():
    with run() as recorded, stage("apply"), stage("merge"), stage("project"):
        pass
    apply, merge, project = recorded._calls
    assert stages.without_inner({apply: 5, project: 2}) == {apply: 3, project: 2}


def test_an_exception_ends_a_stage_and_is_the_callers(session):
    with run() as recorded, pytest.raises(ZeroDivisionError):
        with stage("apply"), stage("detect"):
            raise ZeroDivisionError
    with stage("after"):
        pass
    assert [(row.name, row.failed) for row in recorded.rows()] == [("apply", 1), ("detect", 1)]
    assert "detect (1 failed)" in table(recorded.rows())
    assert seconds_of(recorded.rows()) == {}
    with run() as recorded, stage("next"):
        pass
    assert recorded._calls[0].parent is None


def test_threads_have_stages_of_their_own(ticking):
    inside = threading.Barrier(3, timeout=60)

    def work(name):
        with stage(name):
            inside.wait()
            for _ in range(200):
                with stage("hash"):
                    cache_result("hash", False)

    with run() as recorded, stage("apply"):
        threads = [threading.Thread(target=work, args=(name,)) for name in ("detect", "embed")]
        for thread in threads:
            thread.start()
        inside.wait()
        for thread in threads:
            thread.join()
    rows = by_name(recorded.rows())
    assert rows["hash"].calls == rows["hash"].misses == 400 and rows["detect"].calls == rows["embed"].calls == 1
    assert rows["apply"].own == rows["apply"].total
    assert {call.parent.name for call in recorded._calls if call.name == "hash"} == {"detect", "embed"}


def test_a_stage_that_has_not_ended_is_left_out():
    with run() as recorded, stage("apply"), stage("hash"):
        assert recorded.rows() == []
    assert len(recorded.rows()) == 2


@pytest.mark.parametrize("lookups, text", [
    ([True], "hit"), ([False], "miss"), ([True, False, True], "2 hits, 1 miss"), ([False, False], "2 misses"), ([], "")])
def test_cache_results_by_the_stages_name(lookups, text):
    with run() as recorded, stage("detect"):
        for hit in lookups:
            cache_result("detect", hit)
    assert recorded.rows()[0].cache == text


def test_cache_results_by_the_name_that_a_stage_gives():
    with run() as recorded:
        with stage("project", cache="identities"):
            cache_result("identities", True)
        cache_result("adapters", True)
    project, adapters = recorded.rows()
    assert (project.name, project.cache) == ("project", "hit")
    assert (adapters.name, adapters.cache, adapters.calls) == ("adapters", "hit", 0)


def test_memory_is_the_process_without_a_gpu():
    with run() as recorded, stage("load"):
        pass
    assert (recorded.rows()[0].memory or 0) > 0 or torch.cuda.is_initialized()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_time_and_memory_of_the_gpu():
    torch.cuda.init()
    with run() as recorded, stage("apply"):
        with stage("project", gpu=True):
            large = torch.ones(64 << 20, device="cuda").sum()  # 256 MiB
        with stage("hash"):
            large.item()
    rows = by_name(recorded.rows())
    assert rows["project"].gpu > 0 and rows["apply"].gpu is None
    assert rows["apply"].memory == rows["project"].memory >= rows["hash"].memory + (256 << 20)


# ---- when is recorded


class Queue:
    """ComfyUI's, as far as it is looked at; the real one is in the comfy ring."""

    def __init__(self):
        self.running = []

    def get_current_queue_volatile(self):
        return self.running, []

    def starts(self, prompt_id, *class_types):
        prompt = {str(number): {"class_type": kind, "inputs": {}} for number, kind in enumerate(class_types)}
        self.running = [(0, prompt_id, prompt, {}, [])]


@pytest.fixture
def queue(monkeypatch):
    queue = Queue()
    server = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=types.SimpleNamespace(prompt_queue=queue)))
    monkeypatch.setitem(sys.modules, "server", server)
    return queue


def work():
    with stage("detect"):
        pass


def test_a_prompt_with_a_report_is_recorded(queue):
    queue.starts("one", "KSampler", stages.NODE)
    work()
    work()
    assert by_name(report().rows)["detect"].calls == 2
    queue.starts("two", "KSampler", stages.NODE)
    assert report().rows == []
    work()
    assert by_name(report().rows)["detect"].calls == 1


def test_a_prompt_without_one_is_not(queue, session):
    queue.starts("one", "KSampler")
    work()
    assert session.last is None
    queue.running = []
    work()
    assert session.last is None


def test_other_prompts_neither_change_nor_see_the_last_report(queue):
    queue.starts("one", stages.NODE)
    work()
    queue.starts("two", "KSampler")
    work()
    assert by_name(report().rows)["detect"].calls == 1


def test_always_begins_with_the_next_prompt(queue, session):
    queue.starts("one", "KSampler")
    work()
    stages.record_always(True)
    work()
    assert session.last is None
    queue.starts("two", "KSampler")
    work()
    assert by_name(report().rows)["detect"].calls == 1
    stages.record_always(False)
    queue.starts("three", "KSampler")
    work()
    assert stage("detect") is stages._NOT_RECORDED


def test_a_worker_thread_belongs_to_the_prompt(queue):
    queue.starts("one", stages.NODE)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert by_name(report().rows)["detect"].calls == 1


def test_a_run_of_ones_own_goes_before_the_prompt(queue):
    queue.starts("one", stages.NODE)
    with run() as recorded:
        work()
    work()
    assert recorded.rows()[0].calls == 1


# ---- the history


def test_a_run_counts_once_however_often_it_is_reported():
    for number in range(3):
        with run():
            work()
            assert json.loads(report().history)["runs"] == number + 1
        assert json.loads(report().history)["stages"]["detect"]["count"] == number + 1


def test_a_run_without_stages_is_no_run_of_the_history():
    for _ in range(3):
        with run():
            pass
    with run():
        work()
    history = json.loads(report().history)
    assert history["runs"] == 1 and list(history["stages"]["detect"]) == ["count", "p50", "p95", "last"]


def test_a_warning_is_in_the_report(session):
    for _ in range(5):
        session.history.add({"detect": 1e-9})
    with run():
        work()
    session.last._calls[0].seconds = 2.0
    assert "Warning: detect took 2.00 s, " in report().table
