"""What a history says of the runs in it, and how rows become a table and a chart."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from instantid_swift.reporting.chart import GPU, WALL, chart
from instantid_swift.reporting.table import table
from instantid_swift.timing.history import RUNS, History, Row, seconds_of, spread


def a_row(name="detect", own=0.5, calls=1, gpu=None, hits=0, misses=0, failed=0, memory=None):
    return Row(name, calls, own, own, gpu, memory, hits, misses, failed)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_percentiles_are_numpys(values):
    found = spread(values)
    assert (found["count"], found["last"]) == (len(values), round(values[-1], 6))
    assert [found["p50"], found["p95"]] == pytest.approx(np.percentile(values, [50, 95]).tolist(), abs=1e-6)


def test_the_history_is_bounded():
    history = History()
    for number in range(RUNS + 5):
        history.add({"detect": float(number)})
    summary = history.summary({"detect": 1000.0})
    assert summary["runs"] == summary["stages"]["detect"]["count"] == RUNS
    assert summary["stages"]["detect"]["last"] == 1000.0
    assert min(history._runs[0].values()) == 5.0


def test_a_stage_at_three_times_its_median_is_named():
    history = History()
    for taken in (0.10, 0.12, 0.12, 0.13, 9.0):
        assert history.warnings({"detect": 9.0}) == []  # too little to compare with
        history.add({"detect": taken, "embed": 0.2})
    assert history.warnings({"detect": 0.41, "embed": 0.5, "hash": 9.0}) == [
        "Warning: detect took 0.41 s, 3.4 times its median of 0.12 s."]
    assert history.warnings({"detect": 0.36}) == []


def test_what_takes_no_time_is_never_slow():
    history = History()
    for _ in range(9):
        history.add({"hash": 0.00001})
    assert history.warnings({"hash": 0.0009}) == [] and history.warnings({"hash": 0.0011})


def test_like_is_compared_with_like():
    """Work that a cache spared says nothing about work that was done; nor does their number about one call."""
    assert seconds_of([a_row(hits=2)]) == {"detect (cached)": 0.5}
    assert seconds_of([a_row(misses=2, hits=1, calls=3)]) == {"detect": 0.25}
    assert seconds_of([a_row(calls=20)]) == {"detect": 0.025}
    assert seconds_of([a_row(calls=0, hits=1), a_row(failed=1)]) == {}


def test_the_tables_columns_are_aligned():
    rows = [a_row("apply", 0.0123, memory=3 << 30), a_row("detect", 12.5, calls=10, gpu=0.25, misses=1)]
    text = table(rows, ["Warning: slow."])
    assert text.splitlines()[:5] == [
        "stage   calls   own ms  total ms  GPU ms   MiB  cache",
        "apply       1     12.3      12.3          3072",
        "detect     10  12500.0   12500.0   250.0        miss",
        "",
        "Warning: slow.",
    ]


def pixels(image, colour):
    """Of that colour in each row of the picture."""
    wanted = torch.tensor([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return (image[0] - wanted).abs().amax(-1).lt(1e-3).sum(-1)


def test_the_chart_is_an_image():
    image = chart([a_row("apply"), a_row("detect")])
    assert image.shape[0] == 1 and image.shape[3] == 3 and image.dtype == torch.float32
    assert image.min() == 0 and image.max() == 1
    assert chart([a_row(name) for name in "abcdef"]).shape[1] > image.shape[1] > chart([]).shape[1]


def test_bars_are_as_long_as_the_stages_took():
    image = chart([a_row("apply", 1.0, gpu=0.5), a_row("hash", 0.0), a_row("detect", 0.25), a_row("adapters", 0.0, calls=0)])
    wall, gpu = pixels(image, WALL), pixels(image, GPU)
    runs = [length for length, _ in itertools.groupby(wall.tolist()) if length][1:]  # the first is the legend's
    assert len(runs) == 3
    assert runs[0] == pytest.approx(4 * runs[2], abs=4) and runs[1] == 2
    assert max(gpu[gpu.ne(gpu[gpu > 0][0])]) == pytest.approx(runs[0] / 2, abs=2)
