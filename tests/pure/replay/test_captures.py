"""What would end the process, or leave it unusable: errors inside a capture, the order of frees, streams and pools.

Recordings stand for CUDA graphs (stand_ins/recorded.py).
"""

import gc

import pytest
import torch
from instantid_swift.caches import RecentCache
from instantid_swift.replay import graphs
from stand_ins.computation import Function, call
from stand_ins.recorded import STREAMS


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_a_capture_frees_what_was_captured_inside_of_it(replays, cuda, error):
    """Also where the error was raised while another one was handled."""
    def fails(changing, fixed):
        made = changing[0] * 2
        kept = fixed[0].get_or_make("mask", lambda: made + 1)
        if not cuda.capturing:
            return made
        try:
            raise KeyError(str(len(kept)))
        except KeyError:
            more = made * 3
            raise error from ValueError(str(len(more)))

    def run():
        return replays.run(fails, (torch.ones(3),), (RecentCache(3),))
    run()
    if error is RuntimeError:
        assert run().tolist() == [2] * 3
    else:
        with pytest.raises(KeyboardInterrupt) as caught:
            run()
        del caught
    assert cuda.faults == [] and cuda.events[-3:-1] == ["capture_begin", "capture_end"] and cuda.events[-1] == "reset"


def test_cancel_inside_a_capture_stays_cancel(replays, cuda):
    """Ending a capture that is invalid is an error of its own; ComfyUI asks for Cancel once only."""
    def cancelled(changing, fixed):
        if cuda.capturing:
            cuda.fails["capture_end"] = RuntimeError("the capture is invalid")
            raise KeyboardInterrupt
        return changing[0] * 2
    with pytest.raises(KeyboardInterrupt):
        for _ in range(2):
            replays.run(cancelled, (torch.ones(3),), ())
    assert cuda.current_stream().cuda_stream == 0


@pytest.mark.parametrize("where", ["capture_begin", "capture_end", "launch", "empty_cache"])
def test_what_fails_around_a_capture_leaves_the_stream_and_no_memory(replays, cuda, where):
    """The launch, at which memory may run out, belongs to the capture: later ones do not try again."""
    cuda.fails[where] = torch.OutOfMemoryError("out of memory\nmore")
    function, said = Function(), []
    for _ in range(4):
        assert call(replays, function, torch.ones(3), tell=said.append).tolist() == [3] * 3
        assert cuda.current_stream().cuda_stream == 0
    assert said == ["the capture failed (out of memory)"] * 3
    assert cuda.events.count(where) == 1 and cuda.memory_reserved() == 0 and replays.count == 0


def test_masks_made_in_a_capture_live_as_long_as_the_graph(replays, cuda):
    def function(changing, fixed):
        mask, cache = fixed
        return changing[0] * cache.get_or_make("grid", lambda: mask * 2)
    for number in range(3):
        result = replays.run(function, (torch.full((3,), float(number)),), (torch.ones(3), RecentCache(9)))
        assert result.tolist() == [2 * number] * 3 and cuda.faults == []
    replays.drop()
    gc.collect()
    assert cuda.faults == []


def test_a_graph_goes_before_its_memory_and_after_the_gpu_is_done(replays, cuda):
    for _ in range(2):
        call(replays, Function(), torch.ones(3))
    cuda.events.clear()
    replays.drop()
    assert cuda.events == ["synchronize", "reset"] and cuda.faults == [] and cuda.memory_reserved() == 0


def test_live_captures_share_neither_stream_nor_pool(module, cuda):
    """Destroying one graph frees the cuBLAS workspaces of its stream; a pool without graphs must not be used again."""
    others = [torch.nn.Linear(2, 2) for _ in range(3)]
    for part in (module, *others):
        for size in range(1, graphs.MOST_CAPTURES):
            for _ in range(2):
                call(graphs.replays_of(part), Function(), torch.ones(size))
    alive = [graph for graph in cuda.graphs if graph.state == "launched"]
    assert len({graph.stream for graph in alive}) == len(alive) == 4 * (graphs.MOST_CAPTURES - 1)
    assert all(graph.pool is None for graph in alive)  # of its own


def test_nothing_but_the_capture_runs_on_its_stream(replays, cuda):
    """Workspaces that cuBLAS has made for a stream outside of a capture lie outside of the graph's memory, and may go."""
    streams = []

    def function(changing, fixed):
        streams.append(cuda.current_stream().cuda_stream)
        return changing[0] + 1
    for _ in range(3):
        replays.run(function, (torch.ones(3),), ())
    assert streams[:2] == [0, 0] and streams[2] != 0 and len(streams) == 3


def test_a_stream_is_free_again_after_a_drop_and_there_are_no_more(replays, cuda, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_CAPTURES", 2 * STREAMS)
    said = []

    def capture():
        for size in range(1, STREAMS + 2):
            for _ in range(2):
                call(replays, Function(), torch.ones(size), tell=said.append)
        return replays.count
    assert capture() == STREAMS and said == ["the capture failed (other captures use all of PyTorch's streams)"]
    replays.drop()
    assert capture() == STREAMS
