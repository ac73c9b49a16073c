"""What is recorded of a run, when, and that nothing is where nobody asks."""

import itertools
import sys
import threading
import types

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
    return {name: (row.calls, row.own, row.total) for name, row in recorded.stages.items()}


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
            count_lookup("detect", True)
    finally:
        sys.setprofile(None)
    assert stages.__name__ in called
    assert set(called) <= {stages.__name__, "instantid_swift.host.server", "builtins", "dict", "contextlib", "sys"}
    assert stage("detect") is stage("embed")
    assert table_of_stages(stages.last_run()) == NOTHING


def test_inner_stages_are_not_counted_twice(ticking):
    with run() as recorded:
        with stage("apply"):
            for _ in range(2):
                with stage("hash"):
                    pass
            with stage("detect"), stage("hash"):
                pass
    assert times(recorded) == {"apply": (1, 4, 9), "hash": (3, 3, 3), "detect": (1, 2, 3)}


def test_a_stage_inside_of_itself_has_one_total(ticking):
    with run() as recorded, stage("look"), stage("look"):
        pass
    assert times(recorded) == {"look": (2, 3, 3)}


def test_an_exception_ends_a_stage_and_is_the_callers(ticking):
    with run() as recorded, pytest.raises(ZeroDivisionError):
        with stage("apply"), stage("detect"):
            raise ZeroDivisionError
    assert times(recorded) == {"apply": (1, 2, 3), "detect": (1, 1, 1)}


def test_threads_have_stages_of_their_own(ticking):
    """Stages of one thread are not inside of another thread's."""
    def work():
        with stage("detect"), stage("hash"):
            pass

    with run() as recorded, stage("apply"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert times(recorded) == {"apply": (1, 5, 5), "detect": (1, 2, 3), "hash": (1, 1, 1)}


@pytest.mark.parametrize("lookups, text", [
    ([True], "hit"), ([False], "miss"), ([True, False, True], "2 hits, 1 miss"), ([False, False], "2 misses")])
def test_cache_results_stand_beside_their_stage(lookups, text):
    with run() as recorded, stage("project", cache="identities"):
        for hit in lookups:
            count_lookup("identities", hit)
    lines = table_of_stages(recorded).splitlines()
    assert lines[1].startswith("project") and lines[1].endswith(f" {text}") and not lines[2]


def test_a_cache_without_a_stage_has_a_line_of_its_own():
    with run() as recorded:
        count_lookup("IdentityNet steps", True)
    assert table_of_stages(recorded).splitlines()[1].split() == ["IdentityNet", "steps", "hit"]


def test_memory_is_the_process_without_a_gpu():
    with run() as recorded, stage("load"):
        pass
    assert recorded.stages["load"].memory > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_time_and_memory_of_the_gpu():
    torch.cuda.init()
    with run() as recorded, stage("apply"):
        with stage("project", gpu=True):
            large = torch.ones(64 << 20, device="cuda")  # 256 MiB
        del large
    assert recorded.stages["project"].gpu_seconds() > 0 and recorded.stages["apply"].gpu_seconds() is None
    assert recorded.stages["project"].memory >= recorded.stages["apply"].memory + (256 << 20)


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
    assert stages.last_run().stages["detect"].calls == 2
    queue.starts("two", "KSampler", stages.NODE)
    assert not stages.last_run().stages
    work()
    assert stages.last_run().stages["detect"].calls == 1


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
    assert stages.last_run().stages["detect"].calls == 1


def test_a_run_of_ones_own_goes_before_the_prompt(queue):
    queue.starts("one", stages.NODE)
    with run() as recorded:
        work()
    work()
    assert recorded.stages["detect"].calls == 1
