"""Capture and replay of any function: layouts, buffers, bounds. Recordings stand for CUDA graphs (tests/recorded.py)."""

import gc
import logging
import weakref

import pytest
import torch
from instantid_swift.caches import RecentCache
from instantid_swift.replay import graphs
from stand_ins.recorded import Recordings


@pytest.fixture(autouse=True)
def recordings(monkeypatch):
    monkeypatch.setattr(graphs, "backend", Recordings)
    graphs.log_fallback.cache_clear()


@pytest.fixture
def module():
    return Part(2, 2)


@pytest.fixture
def replays(module):
    return graphs.replays_of(module)


class Part(torch.nn.Linear):
    weight_function = []


class Quantised(torch.Tensor):
    """As the quantised formats have them: a class of its own."""


def with_quantised_weight(module):
    module.weight = torch.nn.Parameter(module.weight.detach().as_subclass(Quantised))
    return module


class Function:
    """x * scale + fixed, as one result of several; its ordinary runs are counted."""

    def __init__(self):
        self.runs = 0

    def __call__(self, changing, fixed):
        self.runs += 1
        x, scale = changing
        return {"sum": [x * scale["by"] + fixed[0]], "x": x.clone()}


def call(replays, function, x, scale=2.0, fixed=None, **options):
    fixed = (torch.ones(()),) if fixed is None else fixed
    result = replays.run(function, (x, {"by": torch.tensor(scale)}), fixed, **options)
    return result["sum"][0]


def test_an_ordinary_call_a_capture_then_replays(replays):
    function = Function()
    for number in range(5):
        x = torch.full((3,), float(number))
        assert torch.equal(call(replays, function, x, scale=number), x * number + 1)
    assert function.runs == 2 and replays.captured == 1


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
    assert len(made) == 2 and replays.bytes == 1000 + 2 * 400


def test_results_belong_to_the_caller(replays):
    function = Function()
    results = [call(replays, function, torch.full((3,), float(number))) for number in range(4)]
    assert [result[0].item() for result in results] == [1, 3, 5, 7]
    results[-1].zero_()
    assert call(replays, function, torch.ones(3)).tolist() == [3] * 3


def test_what_reads_a_number_runs_as_ever_and_it_is_said_once(replays, caplog):
    def reads(changing, fixed):
        return {"sum": [changing[0] + changing[0].sum().item()]}
    with caplog.at_level(logging.INFO):
        for number in range(4):
            assert call(replays, reads, torch.full((2,), float(number))).tolist() == [3 * number] * 2
    line, = (record.getMessage() for record in caplog.records)
    assert line == ("InstantID: no replay: the capture failed (operation not permitted when stream is capturing). The ordinary "
                    "calls run instead.")
    assert replays.captured == 0


def test_other_errors_are_the_callers_and_leave_nothing(replays):
    function = Function()
    call(replays, function, torch.ones(3))

    def fails(changing, fixed):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        call(replays, fails, torch.ones(3))
    assert graphs.statistics()["captures"] == 0
    assert call(replays, function, torch.ones(3)).tolist() == [3] * 3


def test_a_reason_not_to_capture_is_asked_for_before(replays, caplog):
    function = Function()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            call(replays, function, torch.ones(3), why_not=lambda: "no room")
    assert "no room" in caplog.text and function.runs == 3 and replays.captured == 0


def test_captures_are_bounded_in_number(replays):
    for size in range(1, 3 * graphs.MOST_CAPTURES):
        for _ in range(2):
            call(replays, Function(), torch.ones(size))
    assert graphs.statistics()["captures"] == graphs.MOST_CAPTURES


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
    assert captured_after(graphs.drop_all) == 3


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
    assert graphs.replays_of(module) is replays and graphs.replays_of(Part(2, 2)) is not replays
    another = Part(2, 2)
    for _ in range(2):
        call(graphs.replays_of(another), Function(), torch.ones(3))
    before = graphs.statistics()["captures"]
    del another
    gc.collect()
    assert graphs.statistics()["captures"] == before - 1


# ---- reasons


@pytest.mark.parametrize("module, patcher, reason", [
    (Part(2, 2), None, None),
    (Part(2, 2, device="meta"), None, "the model's weights are not all on the GPU"),
    (torch.compile(Part(2, 2)), None, "torch.compile wraps the model"),
    (with_quantised_weight(Part(2, 2)), None, "the model's weights are of a kind of their own (quantised)"),
    (Part(2, 2), type("Dynamic", (), {"is_dynamic": lambda self: True})(),
     "ComfyUI's dynamic VRAM loads the model's weights while it runs"),
    (Part(2, 2), type("Static", (), {"is_dynamic": lambda self: False})(), None),
    (Part(2, 2), type("Older", (), {})(), None),
])
def test_reasons_of_a_module(module, patcher, reason):
    assert graphs.reason_not_capturable(module, patcher) == reason


@pytest.mark.parametrize("name, value", [("prev_comfy_cast_weights", False), ("weight_function", [id]),
                                         ("bias_function", [id])])
def test_weights_that_are_cast_while_it_runs(name, value):
    module = torch.nn.Sequential(Part(2, 2))
    setattr(module[0], name, value)
    assert graphs.reason_not_capturable(module) == (
        "ComfyUI casts or patches the model's weights while it runs (low VRAM)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda(monkeypatch):
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraphs)
    assert graphs.reason_not_capturable(Part(2, 2)) == "there is no CUDA device"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_graphs(replays, monkeypatch):
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraphs)
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
    assert x.sum().item() == 4000 and function.runs == 2
    del x, result
    graphs.drop_all()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
