"""What stands for CUDA graphs where there is no GPU: the operations of a computation, recorded once and run again.

`Recordings` is the pack's own `CudaGraph`; only torch.cuda below it is a `RecordedCuda`. Like a CUDA graph a recording runs no
Python again, keeps no tensor alive, reads its inputs from the same memory, writes its result into the same memory, and refuses
to be recorded where a number is read from a tensor. What a GPU would answer with the end of the process, or a warning, is put
into `RecordedCuda.faults`.
"""

import contextlib
import itertools
import weakref
from typing import NamedTuple

import torch
from instantid_swift.replay.graphs import STREAMS, CudaGraph
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)  # the latter in inference mode
TAKEN, IN_USE = 1000, 400  # bytes of any graph: from the device, and of them between replays


class NoReads(TorchDispatchMode):
    """torch.cuda.set_sync_debug_mode("error")"""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in READS:
            raise RuntimeError("called a synchronizing CUDA operation")
        return operation(*args, **(kwargs or {}))


class Made(NamedTuple):
    """In place of a tensor that the recorded computation makes."""
    number: int


class Given(NamedTuple):
    """In place of a tensor that was there before: its memory, whatever tensor object it belongs to by the time of a replay."""
    storage: StorageWeakRef
    dtype: torch.dtype
    offset: int
    shape: tuple
    strides: tuple

    @classmethod
    def of(cls, tensor):
        return cls(StorageWeakRef(tensor.untyped_storage()), tensor.dtype, tensor.storage_offset(), tuple(tensor.shape),
                   tensor.stride())

    def tensor(self):
        """A tensor of this memory, or None if it was freed."""
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            return None
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.shape, self.strides)


class RecordedGraph(TorchDispatchMode):
    """torch.cuda.CUDAGraph. A state: "new", "capturing", "captured", "launched", "reset"."""

    def __init__(self, cuda):
        super().__init__()
        self.cuda, self.state, self.stream, self.pool = cuda, "new", None, None
        self._operations = []  # (operation, args, kwargs, numbers of its results); in args Made and Given for tensors
        self._made = {}        # number: weak reference to a tensor
        self._numbers = {}     # id of a tensor: number

    def capture_begin(self, pool=None, capture_error_mode="global"):
        self.cuda.does("capture_begin")
        assert not self.cuda.capturing and capture_error_mode == "thread_local"
        self.state, self.stream, self.pool = "capturing", self.cuda.current_stream(), pool
        self.__enter__()

    def capture_end(self):
        self.__exit__(None, None, None)
        self.state = "captured"
        self.cuda.does("capture_end")

    def reset(self):
        if self.state not in ("new", "reset"):
            self.cuda.does("reset")
        self.state = "reset"
        self._operations.clear()
        self._made.clear()

    def replay(self):
        assert self.state in ("captured", "launched")
        self.cuda.does("launch")
        self.state = "launched"
        values = {}

        def value(part):
            if isinstance(part, Made):
                return values[part.number]
            if isinstance(part, Given):
                tensor = part.tensor()
                if tensor is None:
                    self.cuda.faults.append("a graph reads memory that was freed")
                    raise RuntimeError(self.cuda.faults[-1])
                return tensor
            return type(part)(map(value, part)) if type(part) in (list, tuple) else part

        for operation, args, kwargs, numbers in self._operations:
            out = operation(*map(value, args), **{key: value(part) for key, part in kwargs.items()})
            values.update(zip(numbers, tensors_of(out), strict=True))
        for number, reference in self._made.items():
            tensor = reference()
            if tensor is not None and tensor is not values[number]:
                tensor.copy_(values[number])

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}

        def recorded(part):
            if isinstance(part, torch.Tensor):
                number = self._numbers.get(id(part))
                if number is not None and self._made[number]() is part:
                    return Made(number)
                # torch.tensor(number) shows itself here first, and is gone at once
                return part if operation == torch.ops.aten.lift_fresh.default else Given.of(part)
            return type(part)(map(recorded, part)) if type(part) in (list, tuple) else part

        given = [recorded(part) for part in args], {key: recorded(part) for key, part in kwargs.items()}
        out = operation(*args, **kwargs)
        numbers = [self._number(tensor) for tensor in tensors_of(out)]
        self._operations.append((operation, *given, numbers))
        return out

    def _number(self, tensor):
        number = self._numbers.get(id(tensor))
        if number is None or self._made[number]() is not tensor:
            number = self._numbers[id(tensor)] = len(self._made)
            self._made[number] = weakref.ref(tensor, self._freed)
        return number

    def _freed(self, reference):
        if self.state == "captured":
            self.cuda.faults.append("memory of a graph was freed before its first launch: the process ends")
        elif self.state == "launched":
            self.cuda.faults.append("memory of a graph was freed before the graph: a warning")


def tensors_of(out):
    return [tensor for tensor in (out if isinstance(out, list | tuple) else [out]) if isinstance(tensor, torch.Tensor)]


class Stream(NamedTuple):
    cuda_stream: int


class RecordedCuda:
    """torch.cuda, as far as `CudaGraph` uses it.

    events: what was done, in words. fails: {what: exception that it raises}. allocator: the backend's name.
    """

    def __init__(self, allocator="native"):
        self.allocator, self.events, self.faults, self.fails = allocator, [], [], {}
        self.graphs = weakref.WeakSet()
        self._stream, self._streams = Stream(0), map(Stream, itertools.cycle(range(1, STREAMS + 1)))
        self._guard = None

    def does(self, what):
        self.events.append(what)
        if what in self.fails:
            raise self.fails[what]

    @property
    def capturing(self):
        return any(graph.state == "capturing" for graph in self.graphs)

    def CUDAGraph(self):
        graph = RecordedGraph(self)
        self.graphs.add(graph)
        return graph

    def Stream(self):
        return next(self._streams)

    def current_stream(self):
        return self._stream

    def set_stream(self, stream):
        self._stream = stream

    def current_device(self):
        return 0

    def is_available(self):
        return True

    def get_allocator_backend(self):
        return self.allocator

    def get_sync_debug_mode(self):
        return 0 if self._guard is None else 2

    def set_sync_debug_mode(self, mode):
        with contextlib.ExitStack() as before:
            if self._guard is not None:
                before.push(self._guard)
            self._guard = None
        if mode == "error":
            self._guard = NoReads()
            self._guard.__enter__()

    def synchronize(self):
        assert not self.capturing
        self.does("synchronize")

    def empty_cache(self):
        assert not self.capturing
        self.does("empty_cache")

    def memory_reserved(self):
        return self._held(TAKEN) if self.allocator == "native" else 0

    def memory_allocated(self):
        return self._held(IN_USE) if self.allocator == "native" else 0

    def mem_get_info(self):
        return 10**9 - self._held(TAKEN), 10**9

    def _held(self, each):
        return sum(each for graph in self.graphs if graph.state in ("captured", "launched"))


class Recordings(CudaGraph):
    """In place of graphs.CudaGraph."""

    device_type = "cpu"
    cuda = RecordedCuda()
    _alive = weakref.WeakSet()
