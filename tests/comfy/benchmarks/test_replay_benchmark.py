"""The replay benchmark's figures, with recorded operations in place of CUDA graphs."""

import pytest
import torch
from oracle import fixtures as fx

from benchmarks.stages.steps import replay
from benchmarks.stages.steps.sampling import PLAIN

pytestmark = pytest.mark.newest


@pytest.fixture(scope="module")
def plain():
    """(model, positive, negative)"""
    return fx.mini_sdxl(), fx.conditioning(11), fx.conditioning(12)


def test_a_variant_s_captures_replays_and_difference(plain):
    from instantid_swift.replay.calls import with_replay
    model, *text = plain
    variants = {PLAIN: replay.Variant((model, *text)),
                "term, theirs": replay.Variant((replay.with_lora(model, 1), *text), PLAIN),
                "term, replayed": replay.Variant((*with_replay(model), *text), PLAIN, True)}
    with replay.watched(gpu=False) as watch:
        figures = replay.measure(variants, watch, {"size": (8, 8), "steps": 2}, rounds=1)
    row = figures["term, replayed"]
    assert (row["captures"], row["replays"], row["largest difference"], row["captures while timed"]) == (1, 3, 0.0, 0)
    assert set(replay.COLUMNS) <= set(row)
    assert figures["term, theirs"]["largest difference"] > 0 and "captures" not in figures["term, theirs"]
    assert "times as fast as the baseline" not in figures[PLAIN] | figures["term, theirs"]


def holds(**over):
    """What is said of figures in which all holds but these."""
    row = {"captures": 2, "replays": 8, "largest difference": 0.0, "times as fast as the baseline": 3.6, **over.pop("row", {})}
    figures = {"steps": {"512 x 512, batch 1, 4 steps": {replay.ALL_REPLAYED: row}},
               "five prompts": {"captures": 2, "largest difference": 0.0},
               "soak": {"wrong": 0, "captures left": 0, "bytes left": 0, "replays": 9}}
    for name, changed in over.items():
        figures[name] |= changed
    return len(replay.what_does_not_hold(figures, "full"))


def test_what_does_not_hold_is_found():
    assert holds() == 0
    for over in ({"row": {"largest difference": torch.nan}}, {"row": {"times as fast as the baseline": 3.4}},
                 {"row": {"replays": 0}}, {"row": {"captures while timed": 1}}, {"five prompts": {"captures": 3}},
                 {"soak": {"wrong": 1}}, {"soak": {"bytes left": 512}}, {"soak": {"captures left": 1}}):
        assert holds(**over) == 1, over


def test_captures_and_replays_are_counted():
    from instantid_swift.replay import graphs
    before = graphs.backend
    with replay.watched(gpu=False) as watch:
        assert graphs.backend is watch
        x = torch.ones(2)
        graph = watch(lambda: x + 1)
        x.add_(1)
        graph.replay()
        assert (watch.captures, watch.replays, graph.result.tolist()) == (1, 1, [3.0, 3.0])
        watch.begin()
        assert (watch.captures, watch.replays) == (0, 0)
    assert graphs.backend is before
