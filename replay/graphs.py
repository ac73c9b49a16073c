"""Captures a computation as a CUDA graph and replays it, so that a step costs what the GPU takes and no launches.

A capture belongs to a layout: everything about the inputs but the numbers in their tensors. It has buffers of its own, into
which the tensors of each call are copied, and hands out copies of its results. The first call of a layout is an ordinary one,
as libraries choose and compile their kernels then; the second captures.

What goes wrong inside a capture can be fatal: with the allocator cudaMallocAsync the process ends if memory of a graph is freed
after the capture and before the first launch. So nothing is captured that has not been seen to run without reading from the
device, and all that was allocated in a capture is freed in it or kept as long as the graph.
"""

import contextlib
import ctypes
import sys
import threading
import traceback
import weakref

import cachetools
import torch

from ..caches import MIB, RecentCache
from .layouts import layout, with_tensors

MOST_CAPTURES = 8          # of one module; PyTorch has 32 streams, and each capture keeps one
MOST_BYTES = 8192 * MIB    # that the captures of one module may hold together
MOST_LAYOUTS = 64          # that are known to have run once
MOST_MADE = 4096           # masks at a resolution, and the like, that one capture makes and keeps

STREAMS = 32               # that PyTorch hands out in turn

_of_modules = weakref.WeakKeyDictionary()  # torch.nn.Module: its Replays
_lock = threading.Lock()  # for _of_modules, at which the server's threads look during a sampling
_drop_requested = threading.Event()


class CudaGraph:
    """A computation captured on a stream, and in a memory pool, of its own, and launched once.

    Destroying a graph frees cuBLAS workspaces of its stream (PyTorch #193402), and a pool may not be used again once its graphs
    are gone: neither is shared. Nothing else runs on the stream, so that its workspaces lie in the pool.

    result: what the function returned, kept as long as the graph; each replay writes into its tensors. bytes: device memory
    that the graph holds. idle_bytes: those of them that are in use during a replay only.
    """

    device_type = "cuda"
    cuda = torch.cuda
    _alive = weakref.WeakSet()

    def __init__(self, function):
        """Raises RuntimeError if the function cannot be captured, and every exception of the function."""
        self.result = self._stream = self._graph = None
        self._graph = self.cuda.CUDAGraph()
        outside = self.cuda.current_stream()
        try:
            self._stream = self._unused_stream()
            self._alive.add(self)
            self._rehearse(function)
            self.cuda.synchronize()
            self.cuda.set_stream(self._stream)
            reserved, allocated = self._memory()
            self._capture(function)
            self.replay()  # memory may run out here
            after = self._memory()
        except BaseException:
            self.drop()
            raise
        finally:
            self.cuda.set_stream(outside)
        self.bytes = max(after[0] - reserved, 0)
        self.idle_bytes = max(self.bytes - max(after[1] - allocated, 0), 0) if self._is_native() else 0

    def __del__(self):
        self.drop()

    def replay(self):
        """Runs the computation again, on the current stream."""
        self._graph.replay()

    def drop(self):
        """Destroys the graph, and then frees what was allocated in it: the other way round PyTorch warns of each tensor."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.reset()
        self.result = self._stream = None

    def _unused_stream(self):
        taken = {graph._stream.cuda_stream for graph in self._alive if graph._stream is not None}
        for _ in range(STREAMS):
            stream = self.cuda.Stream()
            if stream.cuda_stream not in taken:
                return stream
        raise RuntimeError("other captures use all of PyTorch's streams")

    def _rehearse(self, function):
        """Runs the function once, and raises RuntimeError if it reads from the device.

        A capture that fails leaves the allocator of older PyTorch in a state in which no cache can be emptied any more.
        """
        mode = self.cuda.get_sync_debug_mode()
        self.cuda.set_sync_debug_mode("error")
        try:
            function()
        finally:
            self.cuda.set_sync_debug_mode(mode)

    def _capture(self, function):
        # other threads, such as a preview's, may go on to use the GPU
        self._graph.capture_begin(capture_error_mode="thread_local")
        try:
            self.result = function()
        except BaseException as error:
            _clear_frames(error)  # they hold memory that was allocated in the capture
            with contextlib.suppress(RuntimeError):  # says that the capture is invalid, which the first error has explained
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    @classmethod
    def trim(cls):
        """Gives graph memory that no graph uses back to the device; with cudaMallocAsync emptying the cache does not."""
        if not cls._is_native():
            trim_graph_memory(cls.cuda.current_device())

    @classmethod
    def _is_native(cls):
        return cls.cuda.get_allocator_backend() == "native"

    def _memory(self):
        """Bytes (taken from the device, allocated of them), nothing cached. cudaMallocAsync does not count graphs' memory, so
        that with it other programs' memory is counted, too."""
        self.cuda.synchronize()
        self.cuda.empty_cache()
        taken = self.cuda.memory_reserved() if self._is_native() else -self.cuda.mem_get_info()[0]
        return taken, self.cuda.memory_allocated()


def _clear_frames(error):
    """Frees the local variables of all functions that an exception, or one that led to it, has come through."""
    seen = set()
    errors = [error]
    while errors:
        error = errors.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            errors += [error.__cause__, error.__context__]


def trim_graph_memory(device):
    """Calls the driver's cuDeviceGraphMemTrim, which PyTorch does not offer. device: its number."""
    with contextlib.suppress(OSError, AttributeError):  # no such driver, or one before CUDA 11.4
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        handle = ctypes.c_int()
        if driver.cuDeviceGet(ctypes.byref(handle), device) == 0:
            driver.cuDeviceGraphMemTrim(handle)


backend = CudaGraph  # what captures; tests put a recorder here


class Capture:
    """One layout's graph and its buffers.

    function(changing, fixed): tensors of `changing` are copied at each call, those of `fixed` only when they are other objects
    than the last time.
    """

    def __init__(self, function, changing, fixed):
        tensors = {}
        layout((changing, fixed), tensors)
        with torch.inference_mode(False):  # so that the buffers may be written from everywhere
            self._buffers = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in tensors.values()]
        self._sources = [None] * len(tensors)  # weak references
        self._fill(changing, fixed)
        places = dict(zip(tensors, self._buffers, strict=True))

        def computation():
            # masks at each resolution are made once, in the graph, and are the graph's for as long as it lives
            inputs = with_tensors((changing, fixed), places, RecentCache(MOST_MADE))
            return function(*inputs), inputs

        self._graph = backend(computation)
        self._results = {}
        layout(self._graph.result[0], self._results)
        self.bytes = self._graph.bytes + sum(t.numel() * t.element_size() for t in self._buffers)
        self.idle_bytes = self._graph.idle_bytes

    def __call__(self, changing, fixed):
        self._fill(changing, fixed)
        self._graph.replay()
        return with_tensors(self._graph.result[0], {key: result.clone() for key, result in self._results.items()})

    def drop(self):
        """Gives the graph's memory back."""
        self._graph.drop()
        self._results.clear()

    def _fill(self, changing, fixed):
        tensors = {}
        layout(changing, tensors)
        always = len(tensors)
        layout(fixed, tensors)
        for number, (buffer, tensor) in enumerate(zip(self._buffers, tensors.values(), strict=True)):
            source = self._sources[number]
            if number < always or source is None or source() is not tensor:
                buffer.copy_(tensor)
                self._sources[number] = weakref.ref(tensor)


def replays_of(module):
    """The Replays of a module, shared by all who replay it, and gone with it.

    ComfyUI lets go of a patched model before it makes the next one, with another weight: captures outlive both.
    """
    with _lock:
        return _of_modules.setdefault(module, Replays())


def _existing():
    """The Replays of all modules."""
    with _lock:
        return list(_of_modules.values())


class Replays:
    """The captures of one module, for as long as its weights lie in the same place."""

    def __init__(self):
        self._layouts = cachetools.LRUCache(MOST_LAYOUTS)  # that have run once: why they cannot be captured, or None
        self._captures = {}                                # by layout, the least recently used first
        self._weights = None
        self.captured = 0  # how often
        self.memory_patcher = None  # memory.CapturesAsModel, once there was a capture

    def drop_if_moved(self, place):
        """Forgets all captures if the weights have moved since the last call. place: whatever is equal where they have not."""
        if place != self._weights:
            self.drop()
            self._weights = place

    def run(self, function, changing, fixed, constants=(), why_not=lambda: None, tell=lambda reason: None):
        """function(changing, fixed), replayed from its third call on with the same layout and constants.

        why_not: is asked before a capture; returns a reason against it, in words, or None. tell: is told every reason. What
        cannot be captured runs as an ordinary call.
        """
        key = (layout((changing, fixed), {}), constants)
        capture = self._captures.pop(key, None)
        if capture is not None:
            self._captures[key] = capture  # the most recently used
        elif key not in self._layouts:
            self._layouts[key] = None
        else:
            reason = self._layouts[key] or why_not()
            if reason is None:
                capture = self._capture(key, function, changing, fixed)
                reason = self._layouts[key]
            if reason is not None:
                tell(reason)
        return function(changing, fixed) if capture is None else capture(changing, fixed)

    def _capture(self, key, function, changing, fixed):
        try:
            capture = Capture(function, changing, fixed)
        except RuntimeError as error:  # CUDA refuses what cannot be captured at once, and goes on
            self._layouts[key] = f"the capture failed ({(str(error) or type(error).__name__).splitlines()[0]})"
            return None
        self.captured += 1
        self._captures[key] = capture
        while len(self._captures) > MOST_CAPTURES or self.bytes > MOST_BYTES and len(self._captures) > 1:
            _drop([self._captures.pop(next(iter(self._captures)))])
        return capture

    @property
    def count(self):
        return len(self._captures)

    @property
    def bytes(self):
        return sum(capture.bytes for capture in list(self._captures.values()))

    @property
    def idle_bytes(self):
        """Bytes that ComfyUI takes for free memory between two replays, although only the captures can use them."""
        return sum(capture.idle_bytes for capture in list(self._captures.values()))

    def drop(self):
        """Forgets all captures and gives their memory back. To be called from the thread that samples."""
        captures, self._captures = self._captures, {}
        self._layouts.clear()
        _drop(captures.values())


def _drop(captures):
    """Gives captures' memory back after the GPU is done with them."""
    if not captures:
        return
    backend.cuda.synchronize()
    for capture in captures:
        capture.drop()
    backend.trim()


def drop_all():
    """Has the captures of all modules dropped before the next sampling. May be called from any thread.

    A capture may be under way in the thread that samples, and nothing may be freed then.
    """
    _drop_requested.set()


def drop_now(only_if_requested=False):
    """Forgets the captures of all modules. To be called from the thread that samples."""
    if only_if_requested and not _drop_requested.is_set():
        return
    _drop_requested.clear()
    for replays in _existing():
        replays.drop()


def statistics():
    """{"captures", "bytes"} of all modules."""
    existing = _existing()
    return {"captures": sum(replays.count for replays in existing), "bytes": sum(replays.bytes for replays in existing)}


def idle_bytes():
    """Bytes of all modules' captures that ComfyUI takes for free memory."""
    return sum(replays.idle_bytes for replays in _existing())
