"""The times of the pack's stages, and the memory in use after them.

A prompt that holds an InstantID Performance Report is recorded, and so is what runs inside of `with run():`. Elsewhere a stage
costs one look at ComfyUI's queue: no device is asked, nothing waits, nothing is kept.
"""

import contextlib
import functools
import threading
from dataclasses import dataclass, field
from time import perf_counter

import torch

from ..host.server import running_prompt

NODE = "InstantIDPerformanceReport"  # a prompt with a node of this class is recorded
MB = 1 << 20  # as ComfyUI counts in its log
MEANING = ("A step's time is without the steps that have lines of their own.\n"
           "MB: memory of {} after the step. -: keeps nothing.\n"
           "What ComfyUI took from its own cache did not run.")
NOTHING = ("No step of InstantID has run: everything came from ComfyUI's\n"
           "cache, or no node of InstantID is in the workflow.")
_NOT_RECORDED = contextlib.nullcontext()


def stage(name, cache=None, gpu=False):
    """Context manager around one stage of the work; stages may be nested and come several times a run.

    cache: the name that `count_lookup` uses for this stage; default: the stage's own. gpu: the work is done on PyTorch's
    current CUDA stream and is timed there too.
    """
    recorded = _session.current()
    return _NOT_RECORDED if recorded is None else recorded.timed(name, cache or name, gpu)


def staged(name):
    """Decorator that makes a function a stage."""
    def decorate(function):
        @functools.wraps(function)
        def run(*args, **kwargs):
            with stage(name):
                return function(*args, **kwargs)
        return run
    return decorate


def count_lookup(cache, hit):
    """Counts a hit or a miss of a cache."""
    recorded = _session.current()
    if recorded is not None:
        recorded.caches.setdefault(cache, [0, 0])[not hit] += 1


@contextlib.contextmanager
def run():
    """Yields a Run in which the stages inside are recorded, without ComfyUI's server."""
    before = _session.explicit
    _session.explicit = _session.last = Run()
    try:
        yield _session.explicit
    finally:
        _session.explicit = before


def last_run():
    """Returns the Run that is being recorded, the last one that was, or None."""
    return _session.current() or _session.last


@dataclass
class Stage:
    """All calls of one stage in a run. Times in seconds, memory in bytes."""
    name: str
    cache: str
    calls: int = 0
    own: float = 0.0        # without the stages inside of it
    memory: int | None = None   # in use after the latest call
    events: list = field(default_factory=list)  # pairs of CUDA events around the calls

    def gpu_seconds(self):
        """Returns seconds on the GPU; None where none were timed. Waits for the GPU."""
        if not self.events:
            return None
        torch.cuda.synchronize()
        return sum(begun.elapsed_time(ended) for begun, ended in self.events) / 1000


class Run:
    """The stages of one run, by name, in the order in which they began."""

    def __init__(self):
        self.stages = {}
        self.caches = {}  # name -> [hits, misses]
        self._open = threading.local()  # .stages: [Stage, seconds of the stages inside] from the outermost to the innermost

    @contextlib.contextmanager
    def timed(self, name, cache, gpu):
        """Adds one call of a stage."""
        stage = self.stages.setdefault(name, Stage(name, cache))
        if not hasattr(self._open, "stages"):
            self._open.stages = []
        entry = [stage, 0.0]
        self._open.stages.append(entry)
        begun = _event(gpu)
        start = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - start
            if begun is not None:
                stage.events.append((begun, _event(gpu)))
            self._open.stages.pop()
            stage.calls += 1
            stage.own += seconds - entry[1]
            if self._open.stages:
                self._open.stages[-1][1] += seconds
            stage.memory = memory_in_use()


def _event(gpu):
    """Returns a CUDA event recorded now; None where nothing is timed on a GPU."""
    if not gpu or not torch.cuda.is_initialized():
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def memory_in_use():
    """Returns bytes that PyTorch has allocated on the GPU; without one, the memory of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.memory_allocated()
    import psutil
    return psutil.Process().memory_info().rss


class _Session:
    """The run that is being recorded."""

    def __init__(self):
        self.explicit = None  # Run of `run()`
        self.last = None      # the latest Run
        self._prompt_id = self._prompt_run = None

    def current(self):
        """Returns the Run that stages belong to now, or None where nothing is recorded."""
        if self.explicit is not None:
            return self.explicit
        prompt_id, prompt = running_prompt()
        if prompt_id is None:
            return None
        if prompt_id != self._prompt_id:
            self._prompt_id, self._prompt_run = prompt_id, None
            if any(node.get("class_type") == NODE for node in prompt.values()):
                self._prompt_run = self.last = Run()
        return self._prompt_run


_session = _Session()


def table_of_stages(run):
    """Returns a line for each stage of a `Run` or None, the slowest first, and the meaning of the columns. Waits for the GPU if
    it was timed."""
    if run is None or not (run.stages or run.caches):
        return NOTHING
    timed_on_gpu = torch.cuda.is_initialized()
    cells = [("step", "times", "ms", *(["GPU ms"] if timed_on_gpu else []), "MB", "from the cache")]
    for stage in sorted(run.stages.values(), key=lambda stage: -stage.own):
        gpu = stage.gpu_seconds()
        cells.append((stage.name, str(stage.calls), f"{1000 * stage.own:.1f}",
                      *(["" if gpu is None else f"{1000 * gpu:.1f}"] if timed_on_gpu else []),
                      f"{stage.memory / MB:.0f}" if stage.memory else "", _found(*run.caches.get(stage.cache, (0, 0)))))
    together = sum(stage.own for stage in run.stages.values())
    cells.append(("all steps", "", f"{1000 * together:.1f}", *[""] * (len(cells[0]) - 3)))
    where = "the GPU in use by PyTorch" if timed_on_gpu else "ComfyUI's process"
    shown = {stage.cache for stage in run.stages.values()}
    others = [f"From the cache: {name}, {_found(*counts)}." for name, counts in run.caches.items() if name not in shown]
    return "\n".join([*_aligned(cells), "", *others, MEANING.format(where)])


def _found(hits, misses):
    """Returns '2 of 3', or '-' where nothing was looked up."""
    return f"{hits} of {hits + misses}" if hits + misses else "-"


def table_of_caches(statistics):
    """Returns a line for each cache of `caches.statistics` that was in use."""
    used = [(name, str(counts["entries"]), f"{counts['bytes'] / MB:.1f}", str(counts["hits"]), str(counts["misses"]))
            for name, counts in statistics.items() if any(counts.values())]
    return "\n".join(_aligned([("cache", "entries", "MB", "found", "not found"), *used])) if used else "Nothing is kept."


def _aligned(cells):
    """Returns rows of strings as lines: names to the left, numbers to the right, the last column as it is."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]), last]).rstrip()
            for name, *numbers, last in cells]
