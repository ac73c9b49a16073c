"""What was recorded of runs, for people: a table, a chart, the session's history, a warning where a stage became slow."""

from collections import deque
from statistics import median
from typing import NamedTuple

import torch

RUNS = 200          # kept as the session's history
EARLIER_RUNS = 5    # that a median must come from before a stage is called slow
SLOW = 3            # times the median
NOTICEABLE = 0.001  # seconds; what takes less is noise
MIB = 1 << 20
MEANING = ("own: without the stages inside of it. GPU ms: from when the GPU reached the stage until it was through.\n"
           "What ComfyUI took from its own cache has not run, and is not shown.")
MEANING_OF_MEMORY = {True: "GPU MiB: the most that PyTorch had allocated on the GPU during the stage.",
                     False: "MiB: memory of ComfyUI's process at the end of the stage."}
NOTHING = "No stage of InstantID has run: everything came from ComfyUI's cache, or no node of InstantID is in the workflow."

WIDTH, BAR, MARGIN = 960, 26, 12  # pixels of the chart
WALL, GPU = "#0072B2", "#E69F00"  # blue and orange of Okabe and Ito, told apart by colour-blind people too


class Row(NamedTuple):
    """One stage of a run, all its calls together. Times in seconds, memory in bytes."""
    name: str
    calls: int          # 0 where only a cache was asked
    own: float          # wall time without the stages inside of it
    total: float
    gpu: float | None   # without the timed stages inside of it; None where not timed
    memory: int | None  # highest of the calls
    hits: int
    misses: int
    failed: int         # calls that ended with an exception

    @property
    def cache(self):
        """'hit', 'miss', '2 hits, 1 miss' or ''."""
        if self.hits + self.misses == 1:
            return "hit" if self.hits else "miss"
        counts = ((self.hits, "hit", "hits"), (self.misses, "miss", "misses"))
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)


def seconds_of(rows):
    """What the history keeps of a run: {stage: own seconds of one call}.

    A call spared by its cache counts for nothing, a stage spared altogether as another one, and what failed not at all:
    like is compared with like.
    """
    return {f"{row.name} (cached)" if row.hits and not row.misses else row.name: row.own / (row.misses or row.calls)
            for row in rows if row.calls and not row.failed}


class History:
    """Seconds of the stages in the latest runs of this session."""

    def __init__(self):
        self._runs = deque(maxlen=RUNS)

    def add(self, seconds):
        if seconds:
            self._runs.append(seconds)

    def summary(self, latest):
        """See `Report.history`; latest is counted in, and not kept."""
        runs = [*self._runs, *filter(None, [latest])][-RUNS:]
        names = dict.fromkeys(name for seconds in runs for name in seconds)
        return {"runs": len(runs), "stages": {name: spread(_taken(runs, name)) for name in names}}

    def warnings(self, latest):
        """A sentence for each stage that was much slower than in the runs before."""
        sentences, runs = [], list(self._runs)
        for name, taken in latest.items():
            before = _taken(runs, name)
            usual = median(before) if len(before) >= EARLIER_RUNS else taken
            if taken >= NOTICEABLE and taken > SLOW * usual > 0:
                sentences.append(f"Warning: {name} took {duration(taken)}, {taken / usual:.1f} times its median of "
                                 f"{duration(usual)}.")
        return sentences


def _taken(runs, name):
    return [seconds[name] for seconds in runs if name in seconds]


def spread(values):
    """{"count", "p50", "p95", "last"} of some numbers of seconds, percentiles between neighbours by their distance."""
    p50, p95 = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.5, 0.95], dtype=torch.float64)).tolist()
    return {"count": len(values), "p50": round(p50, 6), "p95": round(p95, 6), "last": round(values[-1], 6)}


def duration(seconds):
    """Seconds as '1.23 s' or '45.6 ms'."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def table(rows, warnings=()):
    """Rows as text with aligned columns; below it the warnings, and what the columns mean."""
    if not rows:
        return NOTHING
    on_gpu = torch.cuda.is_initialized()
    cells = [("stage", "calls", "own ms", "total ms", "GPU ms", "GPU MiB" if on_gpu else "MiB", "cache")]
    for row in rows:
        cells.append((f"{row.name} ({row.failed} failed)" if row.failed else row.name, str(row.calls),
                      f"{1000 * row.own:.1f}", f"{1000 * row.total:.1f}", "" if row.gpu is None else f"{1000 * row.gpu:.1f}",
                      f"{row.memory / MIB:.0f}" if row.memory else "", row.cache))
    return "\n".join([*_aligned(cells), "", *warnings, MEANING_OF_MEMORY[on_gpu], MEANING])


def table_of_caches(statistics, captures):
    """What `caches.statistics` and `graph_replay.statistics` give, as text with aligned columns."""
    cells = [("cache", "entries", "MiB", "of", "hits", "misses", "seconds saved")]
    cells += [(name, str(of["entries"]), f"{of['bytes'] / MIB:.1f}", str(of["budget"] // MIB), str(of["hits"]),
               str(of["misses"]), f"{of['seconds_saved']:.2f}") for name, of in statistics.items()]
    return "\n".join([*_aligned(cells), "", f"Replay holds {captures['captures']} captures, {captures['bytes'] / MIB:.0f} MiB "
                                            "of the GPU."])


def _aligned(cells):
    """Lines of rows of strings: names to the left, numbers to the right, the last column as it comes."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]), last]).rstrip()
            for name, *numbers, last in cells]


def chart(rows):
    """The own times of rows as bars: IMAGE, float32 [1, h, w, 3] in 0..1. Wall time in blue, GPU time below it in orange."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont
    font, large = ImageFont.load_default(18), ImageFont.load_default(22)
    shown = [row for row in rows if row.calls]
    bars = [[(WALL, row.own), *([] if row.gpu is None else [(GPU, row.gpu)])] for row in shown]
    top = 3 * MARGIN + 2 * BAR
    height = top + sum(BAR * len(pair) + MARGIN for pair in bars) + (BAR if not bars else 0)
    picture = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)

    draw.text((MARGIN, MARGIN), "InstantID: own time of each stage", "black", large)
    x = MARGIN
    for colour, meaning in ((WALL, "wall time"), (GPU, "GPU time"))[:max(map(len, bars), default=0)]:
        draw.rectangle((x, top - MARGIN - BAR + 4, x + 16, top - MARGIN - BAR + 20), colour)
        draw.text((x + 24, top - MARGIN - BAR), meaning, "black", font)
        x += 140
    if not bars:
        draw.text((MARGIN, top), "No stage has run.", "black", font)

    left = max((font.getlength(row.name) for row in shown), default=0) + 2 * MARGIN
    room = WIDTH - left - 120  # for the number at the end of a bar
    longest = max((seconds for pair in bars for _, seconds in pair), default=0) or 1
    y = top
    for row, pair in zip(shown, bars, strict=True):
        draw.text((MARGIN, y), row.name, "black", font)
        for colour, seconds in pair:
            end = left + max(1, round(room * seconds / longest))
            draw.rectangle((left, y + 2, end, y + BAR - 3), colour)
            draw.text((end + 8, y), duration(seconds), "black", font)
            y += BAR
        y += MARGIN
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
