"""How long the pack's stages take and what memory they need, where somebody asks for it.

The pack records prompts that hold an InstantID Performance Report, every prompt after `record_always(True)`, and what runs
inside of `with run():`. Elsewhere a stage costs one look at ComfyUI's queue: no device is asked, nothing waits, nothing is
kept. While recording, each stage resets PyTorch's peak of allocated GPU memory (`torch.cuda.reset_peak_memory_stats`), so
that other readers of that peak get the one since the latest stage.
"""

import contextlib
import functools
import threading
from time import perf_counter

import torch

from ..host.server import running_prompt
from .history import History, Row, seconds_of

NODE = "InstantIDPerformanceReport"  # class type whose presence in a prompt has it recorded
_NOT_RECORDED = contextlib.nullcontext()


def stage(name, cache=None, gpu=False):
    """Context manager around one stage of the work; stages may be nested, run in any thread, and come several times a run.

    cache: the name under which `cache_result` notes whether work was spared; the stage's own if None. gpu: whether the work is
    done on PyTorch's current CUDA stream; it is timed there too.
    """
    recorded = _session.current()
    return _NOT_RECORDED if recorded is None else _Call(recorded, name, cache or name, gpu)


def staged(name):
    """Decorator that makes a function a stage."""
    def decorate(function):
        @functools.wraps(function)
        def run(*args, **kwargs):
            with stage(name):
                return function(*args, **kwargs)
        return run
    return decorate


def cache_result(cache, hit):
    """Notes whether a cache had what was looked up."""
    recorded = _session.current()
    if recorded is not None:
        recorded.looked_up(cache, hit)


def record_always(on):
    """Switches the recording of prompts without a report on or off, from the next prompt on."""
    _session.always = on


@contextlib.contextmanager
def run():
    """Records what is done inside as a run of its own: for use without ComfyUI's server. Gives the Run."""
    recorded, before = Run(), _session.explicit
    _session.begin(recorded)
    _session.explicit = recorded
    try:
        yield recorded
    finally:
        _session.explicit = before


def recorded():
    """Returns the Run that is being recorded, the last one that was, or None; and the session's History."""
    return _session.current() or _session.last, _session.history


class Run:
    """What is recorded of one run."""

    def __init__(self):
        self._calls = []   # in the order in which they began
        self._open = []    # those that have not ended
        self._caches = {}  # name -> [hits, misses]
        self._lock = threading.Lock()

    def looked_up(self, cache, hit):
        with self._lock:
            self._caches.setdefault(cache, [0, 0])[not hit] += 1

    def began(self, call):
        with self._lock:
            self._share_peak()
            self._calls.append(call)
            self._open.append(call)

    def ended(self, call, seconds):
        with self._lock:
            self._share_peak()
            self._open.remove(call)
            if not torch.cuda.is_initialized():
                call.memory = _resident_bytes()
            call.seconds = seconds

    def _share_peak(self):
        """Gives all open calls the GPU's peak since the last beginning or end of any, and starts a new one."""
        if torch.cuda.is_initialized():
            peak = torch.cuda.max_memory_allocated()
            for call in self._open:
                call.memory = max(call.memory, peak)
            torch.cuda.reset_peak_memory_stats()

    def rows(self, gpu=True):
        """A Row of each stage that has ended, in the order in which they began. gpu: waits for the GPU and reads its times."""
        with self._lock:
            ended = [call for call in self._calls if call.seconds is not None]
            caches = {name: tuple(counts) for name, counts in self._caches.items()}
        timed = [call for call in ended if gpu and call.events]
        if timed:
            torch.cuda.synchronize()
        own = without_inner({call: call.seconds for call in ended})
        own_gpu = without_inner({call: call.events[0].elapsed_time(call.events[1]) / 1000 for call in timed})
        stages, shown = {}, set()
        for call in ended:
            stages.setdefault(call.name, []).append(call)
            shown.add(call.cache)
        rows = [Row(name, len(calls), sum(own[call] for call in calls),
                    sum(call.seconds for call in calls if all(outer.name != name for outer in call.outer())),
                    sum(own_gpu[call] for call in calls if call in own_gpu) if own_gpu.keys() & set(calls) else None,
                    max((call.memory for call in calls if call.memory), default=None),
                    *caches.get(calls[0].cache, (0, 0)), sum(call.failed for call in calls))
                for name, calls in stages.items()]
        return rows + [Row(name, 0, 0.0, 0.0, None, None, *counts, 0) for name, counts in caches.items() if name not in shown]


class _Call:
    """One pass through a stage."""

    def __init__(self, run, name, cache, gpu):
        self.run, self.name, self.cache, self.gpu = run, name, cache, gpu
        self.seconds = None  # until it has ended
        self.memory = 0
        self.events = []
        self.failed = False

    def __enter__(self):
        self.parent = getattr(_innermost, "call", None)
        _innermost.call = self
        self.run.began(self)
        self.gpu = self.gpu and torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing()
        self._mark()
        self.start = perf_counter()

    def __exit__(self, kind, error, trace):
        seconds = perf_counter() - self.start
        self._mark()
        self.failed = kind is not None
        _innermost.call = self.parent
        self.run.ended(self, seconds)

    def _mark(self):
        if self.gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append(event)

    def outer(self):
        """The calls around it, from the inside out."""
        call = self.parent
        while call is not None:
            yield call
            call = call.parent


_innermost = threading.local()  # .call: the open _Call that the thread is in


def without_inner(seconds):
    """{call: seconds} less what the calls inside of each have taken; between them may be others that are not given."""
    own = dict(seconds)
    for call, taken in seconds.items():
        around = next((outer for outer in call.outer() if outer in own), None)
        if around is not None:
            own[around] -= taken
    return own


def _resident_bytes():
    """Memory of this process, None where psutil is missing."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process().memory_info().rss


class _Session:
    """Which run is being recorded, and what the runs before took."""

    def __init__(self):
        self.always = False
        self.explicit = None  # Run of `run()`
        self.last = None      # the latest Run there was; it enters the history when the next one begins
        self.history = History()
        self._prompt_id = self._of_prompt = None
        self._lock = threading.RLock()

    def begin(self, run):
        with self._lock:
            if self.last is not None:
                self.history.add(seconds_of(self.last.rows(gpu=False)))
            self.last = run

    def current(self):
        """The Run that stages belong to now, or None where nothing is recorded."""
        if self.explicit is not None:
            return self.explicit
        prompt_id, prompt = running_prompt()
        if prompt_id is None:
            return None
        with self._lock:
            if prompt_id != self._prompt_id:
                self._prompt_id, self._of_prompt = prompt_id, None
                if self.always or any(node.get("class_type") == NODE for node in prompt.values()):
                    self._of_prompt = Run()
                    self.begin(self._of_prompt)
            return self._of_prompt


_session = _Session()
