"""All of the pack's caches: what each keeps, under which key, and how much of it.

| cache      | kept                                     | key                                              | budget   |
|------------|------------------------------------------|--------------------------------------------------|----------|
| adapters   | opened adapter files                     | `file_key`                                       | 2048 MiB |
| analyses   | opened face networks                     | a `file_key` for each file, provider             | 1024 MiB |
| faces      | detections of a picture batch            | content of the batch, networks, thresholds       | 1 MiB    |
| embeddings | embeddings of the chosen faces           | the same, and the choice                         | 1 MiB    |
| likeness   | the face of one picture and its embedding | content of the picture, networks, the choice     | 1 MiB    |
| identities | tokens, K and V of all blocks, on the CPU | adapter, content of the embeddings, device, dtype | 256 MiB  |

All of it lies in the computer's own memory: nothing here holds memory of the GPU.
Keys are content, never an address or a name: memory is reused, and files are replaced.
Nothing is kept that its user may change: arrays are read-only, tensors are copied when they are handed out.
Drawings of keypoints are not kept: a copy, which each user would need, takes more than half the time of drawing anew.
"""

import contextlib
import itertools
import os
import threading
import time
import weakref
from typing import NamedTuple

import cachetools
import torch
import xxhash
from torch.utils.weak import WeakIdKeyDictionary

from . import timing
from .host.allocation import outside_of_recordings

MIB = 1 << 20


class Entry(NamedTuple):
    """What a cache has of one key."""
    value: object
    bytes: int
    seconds: float  # that making it took


class ByteCache:
    """Least-recently-used cache bounded in bytes. Concurrent requests for one key compute it once."""

    def __init__(self, budget, size, name="", stage="", gpu=False, shared=False):
        """budget: bytes. size: a function of a value to its bytes. name: its own. stage: what making a value is called in
        performance reports; gpu: whether that is done on the GPU. shared: what does not fit (any more) is still found for as
        long as somebody else, such as ComfyUI's cache of node outputs, holds it."""
        self.name, self.default_budget = name, budget
        self._size, self._stage, self._gpu, self._shared = size, stage, gpu, shared
        self._entries = self._empty(budget)
        self._elsewhere = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._making = {}  # key -> [lock, number of threads that wait for it]
        self._hits = self._misses = 0
        self._seconds_saved = 0.0

    @staticmethod
    def _empty(budget):
        return cachetools.LRUCache(budget, getsizeof=lambda entry: entry.bytes)

    def get_or_make(self, key, make):
        """The value kept for key, or make()'s, which is kept if it fits the budget.

        The caller gets an exception of make, and nothing is kept then. A value whose making began before `clear` is not kept.
        """
        with timing.stage(self._stage, self.name, self._gpu), self._turn(key):
            entry, entries, elsewhere = self._look_up(key)
            timing.cache_result(self.name, entry is not None)
            if entry is None:
                start = time.perf_counter()
                value = make()
                entry = Entry(value, self._size(value), time.perf_counter() - start)
                with self._lock, contextlib.suppress(ValueError):  # larger than the whole budget
                    if self._shared:
                        elsewhere[key] = value
                    entries[key] = entry
            return entry.value

    def __contains__(self, key):
        with self._lock:
            return key in self._entries

    def _look_up(self, key):
        """Returns the Entry of a key, or None, and the two dictionaries for a value that is made now."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None and (value := self._elsewhere.get(key)) is not None:
                entry = Entry(value, 0, 0.0)
            self._hits += entry is not None
            self._misses += entry is None
            self._seconds_saved += entry.seconds if entry else 0.0
            return entry, self._entries, self._elsewhere

    @contextlib.contextmanager
    def _turn(self, key):
        with self._lock:
            turn = self._making.setdefault(key, [threading.Lock(), 0])
            turn[1] += 1
        try:
            with turn[0]:
                yield
        finally:
            with self._lock:
                turn[1] -= 1
                if not turn[1]:
                    del self._making[key]

    @property
    def budget(self):
        """Bytes. A smaller one takes effect at once: what no longer fits goes, least recently used first."""
        return self._entries.maxsize

    @budget.setter
    def budget(self, budget):
        with self._lock:
            entries, self._entries = self._entries, self._empty(budget)
            while entries:
                key, entry = entries.popitem()  # the least recently used
                with contextlib.suppress(ValueError):
                    self._entries[key] = entry

    def clear(self):
        """Forgets everything; what is in use stays with its users."""
        with self._lock:
            self._entries = self._empty(self._entries.maxsize)
            self._elsewhere = weakref.WeakValueDictionary()

    def statistics(self):
        """{"entries", "bytes", "budget", "hits", "misses", "seconds_saved"}."""
        with self._lock:
            return {"entries": len(self._entries), "bytes": self._entries.currsize, "budget": self._entries.maxsize,
                    "hits": self._hits, "misses": self._misses, "seconds_saved": self._seconds_saved}


class RecentCache:
    """Keeps the last few values of one sampling, and goes with it: layouts of a batch, grids of a mask."""

    def __init__(self, count):
        self._entries = cachetools.LRUCache(count)
        self._lock = threading.RLock()  # what is made may need something else of the same sampling

    def get_or_make(self, key, make):
        """The value kept for key, or make()'s."""
        with self._lock:
            if key not in self._entries:
                with outside_of_recordings():
                    self._entries[key] = make()
            return self._entries[key]

    def __len__(self):
        return len(self._entries)

    def __deepcopy__(self, memo):
        return self


def _bytes_of_tensor(tensor):
    return tensor.numel() * tensor.element_size()


def _bytes_of_faces(found):
    return 1000 * (1 + sum(map(len, found)))  # objects and array headers, not the few numbers, make the size


adapters = ByteCache(2048 * MIB, lambda adapter: adapter.bytes, "adapters", "load adapter", shared=True)
analyses = ByteCache(1024 * MIB, lambda analysis: analysis.bytes, "analyses", "load face networks", shared=True)
# about 500 photos each: small entries that stay among the sampler's blocks keep its memory from being given back
faces = ByteCache(1 * MIB, _bytes_of_faces, "faces", "detect")
embeddings = ByteCache(1 * MIB, _bytes_of_tensor, "embeddings", "embed")
identities = ByteCache(256 * MIB, lambda identity: identity.bytes, "identities", "project", gpu=True)
likeness = ByteCache(1 * MIB, lambda face: 4000, "likeness", "measure likeness")
ALL = (adapters, analyses, faces, embeddings, identities, likeness)


def statistics():
    """{cache: what `ByteCache.statistics` says of it}."""
    return {cache.name: cache.statistics() for cache in ALL}


def clear():
    """Forgets everything; what is in use elsewhere stays with its users."""
    for cache in ALL:
        cache.clear()


def tensor_key(tensor):
    """A tensor's content as a key: 128-bit hash of its bytes, shape, dtype."""
    with timing.stage("hash"):
        contiguous = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()  # views may negate only when they are read
        digest = xxhash.xxh3_128_digest(contiguous.flatten().view(torch.uint8).numpy()) if contiguous.numel() else b""
    return digest, tuple(tensor.shape), tensor.dtype


def file_key(path):
    """A file's identity as a key: its real path, inode and size, and when content and inode last changed, in ns.

    OSError if there is no such file. The inode and its time tell apart what copying tools can make equal: a file of the
    same size whose time of modification was set back.
    """
    path = os.path.realpath(path)
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_serials = itertools.count()
_serial_of = WeakIdKeyDictionary()  # equal objects are not one object, and not all of them can be hashed
_serial_lock = threading.Lock()


def object_key(thing):
    """A number for an object whose content cannot be compared; unlike id(), it is never given to another one."""
    with _serial_lock:
        if thing not in _serial_of:
            _serial_of[thing] = next(_serials)
        return _serial_of[thing]
