"""Captures a computation as a CUDA graph and replays it, so that a step costs what the GPU takes and no launches.

A capture belongs to a layout: everything about the inputs but the numbers in their tensors. It has buffers of its own, into
which the tensors of each call are copied, and hands out copies of its results. The first call of a layout is an ordinary one,
as libraries choose and compile their kernels then; the second captures.
"""

import functools
import logging
import threading
import weakref

import cachetools
import torch

from ..caches import MIB, RecentCache

log = logging.getLogger(__name__)

MOST_CAPTURES = 8          # of one module
MOST_BYTES = 8192 * MIB    # that they may hold together
MOST_LAYOUTS = 64          # that are known to have run once

_of_modules = weakref.WeakKeyDictionary()  # torch.nn.Module: its Replays


def dead_reference():
    """Stands for a weak reference whose object is gone."""
    return None


class CudaGraphs:
    """CUDA graphs of one module. They share memory, as one runs at a time and results are copied out of it."""

    device_type = "cuda"

    def __init__(self):
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function):
        """(replay, function's result, bytes it takes): replay() computes the same into the same result again."""
        before = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        # other threads, such as a preview's, may go on to use the GPU
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = function()
        return graph.replay, result, max(torch.cuda.memory_reserved() - before, 0)


backend = CudaGraphs  # what captures; tests put a recorder here


def layout(part, tensors):
    """All of some inputs but the numbers in their tensors, as a key. tensors: {id: tensor}, to which theirs are added."""
    if isinstance(part, torch.Tensor):
        if id(part) in tensors:
            return list(tensors).index(id(part))
        tensors[id(part)] = part
        return part.shape, part.stride(), part.dtype, part.device
    if isinstance(part, tuple | list):
        return (type(part).__name__, *(layout(item, tensors) for item in part))
    if isinstance(part, dict):
        return tuple((key, layout(item, tensors)) for key, item in part.items())
    return RecentCache if isinstance(part, RecentCache) else part


def with_tensors(part, others, sampling_cache=None):
    """Inputs with other tensors in the same places. others: {id: tensor in its place}. sampling_cache: in place of one that the
    inputs hold."""
    if isinstance(part, torch.Tensor):
        return others[id(part)]
    if isinstance(part, tuple | list):
        items = [with_tensors(item, others, sampling_cache) for item in part]
        return type(part)(*items) if hasattr(part, "_fields") else type(part)(items)
    if isinstance(part, dict):
        return {key: with_tensors(item, others, sampling_cache) for key, item in part.items()}
    return sampling_cache if isinstance(part, RecentCache) else part


class Capture:
    """One layout's graph and its buffers.

    function(changing, fixed): tensors of `changing` are copied at each call, those of `fixed` when they are other objects than
    the last time.
    """

    def __init__(self, graphs, function, changing, fixed):
        tensors = {}
        layout((changing, fixed), tensors)
        with torch.inference_mode(False):  # so that the buffers may be written from everywhere
            self._buffers = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in tensors.values()]
        self._sources = [dead_reference] * len(tensors)
        self._fill(changing, fixed)
        # masks at each resolution are made in the graph, once
        inputs = with_tensors((changing, fixed), dict(zip(tensors, self._buffers, strict=True)), RecentCache(len(tensors)))
        self._replay, self._result, taken = graphs.capture(lambda: function(*inputs))
        self._results = {}
        layout(self._result, self._results)
        self.bytes = taken + sum(t.numel() * t.element_size() for t in self._buffers)

    def __call__(self, changing, fixed):
        self._fill(changing, fixed)
        self._replay()
        return with_tensors(self._result, {key: result.clone() for key, result in self._results.items()})

    def _fill(self, changing, fixed):
        tensors = {}
        layout(changing, tensors)
        always = len(tensors)
        layout(fixed, tensors)
        for number, (buffer, tensor) in enumerate(zip(self._buffers, tensors.values(), strict=True)):
            if number < always or self._sources[number]() is not tensor:
                buffer.copy_(tensor)
                self._sources[number] = weakref.ref(tensor)


def replays_of(module):
    """The Replays of a module, shared by all who replay it, and gone with it.

    ComfyUI lets go of a patched model before it makes the next one, with another weight: captures outlive both.
    """
    return _of_modules.setdefault(module, Replays())


class Replays:
    """The captures of one module, for as long as its weights lie where they lay."""

    def __init__(self):
        self._graphs = None
        self._warm = cachetools.LRUCache(MOST_LAYOUTS)    # layout: whether it may be captured
        self._captures = cachetools.LRUCache(MOST_CAPTURES)
        self._weights = None
        self._lock = threading.RLock()  # a request to free memory comes from another thread
        self.captured = 0  # how often
        self.memory_patcher = None  # memory.CapturesAsModel, once there was a capture

    def __deepcopy__(self, memo):
        return self

    def drop_if_moved(self, addresses):
        """Forgets all captures if the weights have moved since the last call. addresses: as `weight_addresses` gives them."""
        if addresses != self._weights:
            self.drop()
            self._weights = addresses

    def run(self, function, changing, fixed, constants=(), why_not=lambda: None):
        """function(changing, fixed), replayed from its third call on with the same layout and constants.

        why_not: asked before a capture; a reason not to, in words, or None. What fails to be captured runs as it would have.
        """
        key = (layout((changing, fixed), {}), constants)
        with self._lock:
            capture = self._captures.get(key)
            warm = self._warm.setdefault(key, None)
            if warm is None:  # not even once
                self._warm[key] = True
            elif capture is None and warm:
                capture = self._capture(key, function, changing, fixed, why_not)
        return function(changing, fixed) if capture is None else capture(changing, fixed)

    def _capture(self, key, function, changing, fixed, why_not):
        reason = why_not()
        if reason is None:
            try:
                self._graphs = self._graphs or backend()
                capture = Capture(self._graphs, function, changing, fixed)
            except RuntimeError as error:  # whatever cannot be captured, CUDA says at once, and goes on
                reason = f"the capture failed ({str(error).splitlines()[0]})"
        if reason is not None:
            self._warm[key] = False
            log_fallback(reason)
            return None
        self.captured += 1
        self._captures[key] = capture
        while self.bytes > MOST_BYTES and len(self._captures) > 1:
            self._captures.popitem()
        return capture

    @property
    def count(self):
        return len(self._captures)

    @property
    def bytes(self):
        with self._lock:
            return sum(capture.bytes for capture in self._captures.values())

    def drop(self):
        """Forgets all captures and gives their memory back."""
        with self._lock:
            self._captures.clear()
            self._warm.clear()


def drop_all():
    """Forgets the captures of all modules."""
    for replays in list(_of_modules.values()):
        replays.drop()


def statistics():
    """{"captures", "bytes"} of all modules."""
    existing = list(_of_modules.values())
    return {"captures": sum(replays.count for replays in existing), "bytes": sum(replays.bytes for replays in existing)}


@functools.lru_cache(maxsize=256)
def log_fallback(reason):
    """Says once why something is not replayed."""
    log.info("InstantID: no replay: %s. The ordinary calls run instead.", reason)


def weight_addresses(module):
    """Where a module's weights lie, for `Replays.drop_if_moved`."""
    return tuple(tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers()))


def reason_not_capturable(module, patcher=None):
    """Why a module cannot be captured as it is loaded now, in words, or None. patcher: ComfyUI's ModelPatcher of it."""
    device_type = backend.device_type
    if device_type == "cuda" and not torch.cuda.is_available():
        return "there is no CUDA device"
    if hasattr(module, "_orig_mod"):
        return "torch.compile wraps the model"
    if patcher is not None and getattr(patcher, "is_dynamic", bool)():
        return "ComfyUI's dynamic VRAM loads the model's weights while it runs"
    if any(type(tensor) not in (torch.nn.Parameter, torch.Tensor) for tensor in module.parameters()):
        return "the model's weights are of a kind of their own (quantised)"
    if any(tensor.device.type != device_type for tensor in module.parameters()):
        return "the model's weights are not all on the GPU"
    if any(hasattr(part, "prev_comfy_cast_weights") or getattr(part, "weight_function", None)
           or getattr(part, "bias_function", None) for part in module.modules()):
        return "ComfyUI casts or patches the model's weights while it runs (low VRAM)"
    return None
