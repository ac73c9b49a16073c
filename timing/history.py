"""What was recorded of runs, as numbers: one row a stage, the session's history, a warning where a stage became slow."""

from collections import deque
from statistics import median
from typing import NamedTuple

import torch

RUNS = 200          # kept as the session's history
EARLIER_RUNS = 5    # that a median must come from before a stage is called slow
SLOW = 3            # times the median
NOTICEABLE = 0.001  # seconds; what takes less is noise


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

    The calls that a cache spared are not counted. A stage that was spared altogether gets a name of its own, and a stage with
    a failed call is left out, so that a median is taken of like runs.
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
