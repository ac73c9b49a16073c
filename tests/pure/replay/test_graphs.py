"""Capture and replay of any function: layouts, buffers, bounds. Recordings stand for CUDA graphs (stand_ins/recorded.py)."""

import gc
import threading
import weakref

import pytest
import torch
from instantid_swift.caches import RecentCache
from instantid_swift.replay import graphs
from stand_ins.computation import Function, call
from stand_ins.recorded import TAKEN


def test_an_ordinary_call_a_capture_then_replays(replays):
    function = Function()
    for number in range(5):
        x = torch.full((3,), float(number))
        assert torch.equal(call(replays, function, x, scale=number), x * number + 1)
    assert function.runs == 3 and replays.captured == 1  # an ordinary call, a rehearsal, the capture


def test_another_layout_is_another_capture(replays):
    function = Function()
    inputs = [(torch.ones(3), ()), (torch.ones(4), ()), (torch.ones(3, dtype=torch.float64), ()), (torch.ones(3), (1, 0)),
              (torch.ones(6)[::2], ())]
    for _ in range(3):
        for x, constants in inputs:
            call(replays, function, x, constants=constants)
    assert replays.captured == len(inputs)


def test_what_is_fixed_is_copied_when_it_is_another_object(replays):
    """Also where the other one has got the place of the first."""
    function = Function()
    for number in range(20):
        fixed = (torch.tensor(float(number)),)
        for _ in range(2):
            assert call(replays, function, torch.ones(3), fixed=fixed).tolist() == [number + 2] * 3
    assert replays.captured == 1


def test_a_tensor_in_several_places_has_one_buffer(replays):
    """A mask that stands at sixty blocks; and what a graph makes of it is made once."""
    made = []

    def function(changing, fixed):
        return sum(kept.get_or_make(mask, lambda mask=mask: made.append(1) or mask * 2) for mask, kept in fixed) + changing[0]
    for number in range(4):
        mask, kept = torch.full((100,), float(number)), RecentCache(5)
        result = replays.run(function, (torch.ones(100),), [(mask, kept)] * 60)
        assert result[0] == 120 * number + 1
    assert len(made) == 3 and replays.bytes == TAKEN + 2 * 400


def test_results_belong_to_the_caller(replays):
    function = Function()
    results = [call(replays, function, torch.full((3,), float(number))) for number in range(4)]
    assert [result[0].item() for result in results] == [1, 3, 5, 7]
    results[-1].zero_()
    assert call(replays, function, torch.ones(3)).tolist() == [3] * 3


def test_what_reads_a_number_is_never_captured_and_runs_as_ever(replays, cuda):
    """A capture that fails leaves the allocator of older PyTorch in a state that it does not come out of."""
    said = []

    def reads(changing, fixed):
        return {"sum": [changing[0] + changing[0].sum().item()]}
    for number in range(4):
        assert call(replays, reads, torch.full((2,), float(number)), tell=said.append).tolist() == [3 * number] * 2
    assert said == ["the capture failed (called a synchronizing CUDA operation)"] * 3
    assert replays.captured == 0 and "capture_begin" not in cuda.events


def test_other_errors_are_the_callers_and_leave_nothing(replays):
    function = Function()
    call(replays, function, torch.ones(3))

    def fails(changing, fixed):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        call(replays, fails, torch.ones(3))
    assert graphs.statistics()["captures"] == 0
    assert call(replays, function, torch.ones(3)).tolist() == [3] * 3


def test_a_reason_not_to_capture_is_asked_for_before(replays):
    function, said, reasons = Function(), [], ["no room", "no room", None]
    for _ in range(4):
        call(replays, function, torch.ones(3), why_not=lambda: reasons.pop(0), tell=said.append)
    assert said == ["no room"] * 2 and replays.captured == 1


def test_captures_are_bounded_in_number(replays):
    for size in range(1, 3 * graphs.MOST_CAPTURES):
        for _ in range(2):
            call(replays, Function(), torch.ones(size))
    assert replays.count == graphs.MOST_CAPTURES


def test_captures_are_bounded_in_bytes(replays, monkeypatch):
    for size in (1, 2, 3):
        for _ in range(2):
            call(replays, Function(), torch.ones(size))
    monkeypatch.setattr(graphs, "MOST_BYTES", replays.bytes - 1)
    for _ in range(2):
        call(replays, Function(), torch.ones(1, 1))
    assert replays.bytes <= graphs.MOST_BYTES and graphs.statistics()["captures"] < 4


def test_moved_weights_and_requests_for_memory_drop_captures(replays):
    function = Function()

    def captured_after(action):
        action()
        for _ in range(3):
            call(replays, function, torch.ones(3))
        return replays.captured
    assert captured_after(lambda: replays.drop_if_moved((1, 2))) == 1
    assert captured_after(lambda: replays.drop_if_moved((1, 2))) == 1
    assert captured_after(lambda: replays.drop_if_moved((1, 3))) == 2
    assert captured_after(graphs.drop_now) == 3


def test_a_capture_keeps_nothing_of_its_first_call(replays):
    """What is kept for a sampling goes with it, although a capture was made in it."""
    kept = RecentCache(3)
    gone = weakref.ref(kept)

    def function(changing, fixed):
        return changing[0] * fixed[1].get_or_make("factor", lambda: fixed[0] * 3)
    for number in range(3):
        replays.run(function, (torch.tensor([2.0]),), (torch.tensor(float(number)), kept))
    del kept
    gc.collect()
    assert gone() is None


def test_captures_are_shared_and_go_with_their_module(module, replays):
    assert graphs.replays_of(module) is replays and graphs.replays_of(torch.nn.Linear(2, 2)) is not replays
    another = torch.nn.Linear(2, 2)
    for _ in range(2):
        call(graphs.replays_of(another), Function(), torch.ones(3))
    before = graphs.statistics()["captures"]
    del another
    gc.collect()
    assert graphs.statistics()["captures"] == before - 1


def test_the_least_recently_used_capture_goes(replays):
    """Looking at the captures, as reports do, is no use of them."""
    sizes = range(1, graphs.MOST_CAPTURES + 1)
    for size in [size for size in sizes for _ in range(2)] + [1]:
        call(replays, Function(), torch.ones(size))
    assert graphs.statistics()["bytes"] == replays.bytes > 0
    for _ in range(2):
        call(replays, Function(), torch.ones(1, 1))
    before = replays.captured
    call(replays, Function(), torch.ones(1))
    assert replays.captured == before
    for _ in range(2):
        call(replays, Function(), torch.ones(2))
    assert replays.captured == before + 1


# ---- sizes


@pytest.mark.parametrize("allocator", ["native", "cudaMallocAsync"])
def test_the_size_of_a_capture(replays, cuda, allocator, monkeypatch):
    """The cache is emptied before both looks; cudaMallocAsync does not count graphs among what is reserved."""
    cuda.allocator = allocator
    trimmed = []
    monkeypatch.setattr(graphs, "trim_graph_memory", trimmed.append)
    for _ in range(2):
        call(replays, Function(), torch.ones(3))
    assert replays.bytes == TAKEN + 4 * 3 + 4 + 4
    assert replays.idle_bytes == (600 if allocator == "native" else 0)
    begin = cuda.events.index("capture_begin")
    assert cuda.events[begin - 2:begin] == ["synchronize", "empty_cache"]
    assert cuda.events[begin + 1:begin + 5] == ["capture_end", "launch", "synchronize", "empty_cache"]
    replays.drop()
    assert trimmed == ([] if allocator == "native" else [0])


def test_trimming_without_a_driver():
    graphs.trim_graph_memory(0)


# ---- requests from the server


def test_a_request_from_another_thread_waits_for_the_next_sampling(replays, cuda):
    function = Function()
    for _ in range(2):
        call(replays, function, torch.ones(3))
    thread = threading.Thread(target=graphs.drop_all)
    thread.start()
    thread.join()
    assert replays.count == 1 and "reset" not in cuda.events
    graphs.drop_now(only_if_requested=True)
    assert replays.count == 0 and cuda.events.count("reset") == 1
    for _ in range(2):
        call(replays, function, torch.ones(3))
    graphs.drop_now(only_if_requested=True)
    assert replays.count == 1


def test_a_module_that_comes_while_a_report_is_made_waits(replays, monkeypatch):
    """It ended the report: "dictionary changed size during iteration"."""
    another = torch.nn.Linear(2, 2)
    thread = threading.Thread(target=graphs.replays_of, args=(another,))

    class Interrupted(weakref.WeakKeyDictionary):
        def values(self):
            for value in super().values():
                if thread.ident is None:
                    thread.start()
                    thread.join(0.2)
                yield value
    modules = Interrupted(graphs._of_modules)
    monkeypatch.setattr(graphs, "_of_modules", modules)
    assert graphs.statistics() == {"captures": 0, "bytes": 0}
    thread.join()
    assert len(modules) == 2


# ---- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_graphs(replays, monkeypatch):
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraph)
    function = Function()
    before = torch.cuda.memory_allocated()
    for number in range(5):
        x = torch.full((1000,), float(number), device="cuda")
        result = replays.run(function, (x, {"by": torch.tensor(3.0, device="cuda")}), (torch.ones((), device="cuda"),))
        assert torch.equal(result["sum"][0], x * 3 + 1)

    def fails(changing, fixed):
        if torch.cuda.is_current_stream_capturing():
            raise KeyError
        return changing[0] * 2
    with pytest.raises(KeyError):
        for _ in range(2):
            replays.run(fails, (x,), ())
    assert x.sum().item() == 4000 and function.runs == 3
    del x, result
    graphs.drop_now()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
