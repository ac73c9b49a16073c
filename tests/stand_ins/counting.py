"""Operations of torch, counted as they run in this thread."""

import contextlib
from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

HOST_READS = ("_local_scalar_dense", "item", "is_nonzero")  # the latter two in inference mode, where they arrive whole


class _Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        self.counts["host reads" if name in HOST_READS else name] += 1
        return operator(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted_operations():
    """A Counter of the names of the operations inside; those that read a number from a tensor are "host reads"."""
    with _Counting() as counting:
        yield counting.counts
