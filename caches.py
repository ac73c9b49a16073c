"""The one place that keeps things: what is kept, under which key, and how much of it.

| cache      | kept                                          | key                                          | bound          |
|------------|-----------------------------------------------|----------------------------------------------|----------------|
| adapters   | opened adapter files                          | real path, size, mtime                       | while in use   |
| analyses   | opened face networks                          | real paths, sizes, mtimes, provider          | while in use   |
| faces      | detections of a picture batch                 | content of the batch, networks, thresholds   | 64 MiB         |
| embeddings | embeddings of the chosen faces                | the same, and the choice                     | 16 MiB         |
| identities | tokens, K and V of all blocks, on the device  | adapter, content of the embedding, device, dtype | 128 MiB    |

Keys are content, never an address or a name: memory is reused, and files are replaced. Nothing is kept that its user
may change: arrays are read-only, and tensors handed out are for reading.
"""

import contextlib
import itertools
import os
import threading
import weakref

import cachetools
import torch
import xxhash

MIB = 1 << 20


class ByteCache:
    """Least-recently-used cache bounded in bytes. Concurrent requests for one key compute it once."""

    def __init__(self, max_bytes):
        self._entries = cachetools.LRUCache(max_bytes, getsizeof=lambda entry: entry[1])
        self._lock = threading.Lock()
        self._making = {}  # key -> [lock, number of threads that wait for it]
        self.hits = 0
        self.misses = 0

    def get_or_make(self, key, make, size):
        """The value kept for key, or make()'s, kept if its size(value) in bytes fits the bound.

        An exception of make is the caller's and leaves nothing behind.
        """
        with self._turn(key):
            with self._lock:
                if key in self._entries:
                    self.hits += 1
                    return self._entries[key][0]
                self.misses += 1
            value = make()
            entry = (value, size(value))
            with self._lock, contextlib.suppress(ValueError):  # ValueError: larger than the whole cache
                self._entries[key] = entry
            return value

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

    def clear(self):
        with self._lock:
            self._entries.clear()

    def statistics(self):
        with self._lock:
            return {"entries": len(self._entries), "bytes": self._entries.currsize,
                    "hits": self.hits, "misses": self.misses}


class RecentCache:
    """The last few things made, for what belongs to one object and goes with it: layouts of a batch, grids of a mask."""

    def __init__(self, count):
        self._entries = cachetools.LRUCache(count)
        self._lock = threading.Lock()

    def get_or_make(self, key, make):
        """The value kept for key, or make()'s."""
        with self._lock:
            if key not in self._entries:
                self._entries[key] = make()
            return self._entries[key]

    def __len__(self):
        return len(self._entries)


class WeakCache:
    """What somebody else (ComfyUI's node cache, a patched model) holds anyway, found again by its key."""

    def __init__(self):
        self._entries = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        self.hits = 0
        self.misses = 0

    def get_or_make(self, key, make):
        with self._lock:
            value = self._entries.get(key)
            if value is None:
                self.misses += 1
                value = self._entries[key] = make()
            else:
                self.hits += 1
            return value

    def clear(self):
        with self._lock:
            self._entries.clear()

    def statistics(self):
        with self._lock:
            return {"entries": len(self._entries), "hits": self.hits, "misses": self.misses}


adapters = WeakCache()
analyses = WeakCache()
faces = ByteCache(64 * MIB)
embeddings = ByteCache(16 * MIB)
identities = ByteCache(128 * MIB)
_CACHES = {"adapters": adapters, "analyses": analyses, "faces": faces, "embeddings": embeddings,
           "identities": identities}


def statistics():
    """{cache: {"entries", "bytes" where it is bounded in bytes, "hits", "misses"}}."""
    return {name: cache.statistics() for name, cache in _CACHES.items()}


def clear():
    """Forgets everything; what is in use elsewhere stays with its users."""
    for cache in _CACHES.values():
        cache.clear()


def tensor_key(tensor):
    """A tensor's content as a key: 128-bit hash of its bytes, shape, dtype."""
    contiguous = tensor.detach().cpu().contiguous()
    digest = xxhash.xxh3_128_digest(contiguous.flatten().view(torch.uint8).numpy()) if contiguous.numel() else b""
    return digest, tuple(tensor.shape), tensor.dtype


def file_key(path):
    """A file's identity as a key: real path, size, time of its last change in ns. OSError if there is no such file."""
    path = os.path.realpath(path)
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


_serials = itertools.count()
_serial_of = weakref.WeakKeyDictionary()
_serial_lock = threading.Lock()


def object_key(thing):
    """A number for an object whose content cannot be compared; unlike id(), it is never given to another one."""
    with _serial_lock:
        if thing not in _serial_of:
            _serial_of[thing] = next(_serials)
        return _serial_of[thing]
