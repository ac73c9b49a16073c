"""What stands for CUDA graphs where there is no GPU: the operations of a computation, recorded once and run again.

Like a graph it runs no Python again, reads its inputs from the same memory, writes its result into the same memory, and refuses
to be recorded where a number is read from a tensor.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)  # the latter in inference mode


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, out))
        return out


class Recordings:
    """In place of graphs.CudaGraphs."""

    device_type = "cpu"

    def capture(self, function):
        with Recorder() as recorder:
            result = function()

        def replay():
            now = {}  # id of a tensor made while recording, which is kept: what stands for it

            def current(value):
                if isinstance(value, list | tuple):
                    return [current(item) for item in value]
                return now.get(id(value), value) if isinstance(value, torch.Tensor) else value
            for operation, args, kwargs, out in recorder.operations:
                again = operation(*map(current, args), **{key: current(value) for key, value in kwargs.items()})
                for old, new in zip(out, again, strict=True) if isinstance(out, list | tuple) else [(out, again)]:
                    now[id(old)] = new
            for tensor in tree_leaves(result):
                if current(tensor) is not tensor:
                    tensor.copy_(current(tensor))
        return replay, result, 1000
