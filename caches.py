"""The caches between runs, and their keys.

| cache      | kept                                 | key                                          | for how long |
|------------|--------------------------------------|----------------------------------------------|--------------|
| adapters   | opened adapter files                 | `file_key`                                   | while in use |
| analyses   | opened face networks                 | a `file_key` for each file, provider         | while in use |
| pictures   | faces of a picture, their embeddings | content of the picture, networks, thresholds | latest 500   |
| identities | tokens, K and V of all blocks, CPU   | adapter, embeddings, device, dtype           | 128 MiB      |
| sweeps     | pictures of InstantID Sweep          | `identity_key` of its inputs, value, seed    | 512 MiB      |

Adapters and networks are in use as long as ComfyUI's cache of node outputs holds them. All values lie in the computer's own
memory, none on the GPU. Keys are content, never an address or a name: memory is reused, and files are replaced. Only a sweep
is keyed by the objects given to it, as long as they live. Users cannot change what is kept: arrays are read-only, tensors are
copied when they are handed out.
"""

import itertools
import os
import threading
import weakref

import cachetools
import torch
import xxhash
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from . import performance
from .host.server import outside_of_recordings

MIB = 1 << 20


class Cache:
    """A dictionary that counts hits and misses. Server threads may clear it while a prompt uses it."""

    def __init__(self, name, size, budget=None):
        """name: shown in reports. size: function(value) -> bytes. budget: bytes of all values, of which the least recently used
        go first; None keeps each value as long as it is referenced elsewhere."""
        self.name, self._size, self._budget = name, size, budget
        self._hits = self._misses = 0
        self.clear()

    def clear(self):
        """Forgets everything; what is in use stays with its users."""
        self._entries = (weakref.WeakValueDictionary() if self._budget is None
                         else cachetools.LRUCache(self._budget, getsizeof=self._size))

    def look_up(self, key):
        """Returns the value of a key, or None."""
        value = self._entries.get(key)
        self._hits += value is not None
        self._misses += value is None
        performance.count_lookup(self.name, value is not None)
        return value

    def keep(self, key, value):
        """Keeps a value, unless it is larger than the budget."""
        if self._budget is None or self._size(value) <= self._budget:
            self._entries[key] = value

    def get_or_make(self, key, make, stage, gpu=False):
        """Returns the value of a key; a missing one is made by make() and kept.

        stage: its name in performance reports. gpu: the value is made on the GPU.
        """
        with performance.stage(stage, self.name, gpu):
            value = self.look_up(key)
            if value is None:
                value = make()
                self.keep(key, value)
            return value

    def statistics(self):
        """Returns {"entries", "bytes", "hits", "misses"}."""
        values = list(self._entries.values())
        return {"entries": len(values), "bytes": sum(map(self._size, values)), "hits": self._hits, "misses": self._misses}


class RecentCache:
    """A cache of the most recent values of one sampling, such as layouts of a batch and grids of a mask."""

    def __init__(self, count):
        self._entries = cachetools.LRUCache(count)
        self._lock = threading.RLock()  # ComfyUI samples on several GPUs in a thread each; making may need another entry

    def get_or_make(self, key, make):
        """Returns the value of a key; a missing one is made by make() and kept."""
        with self._lock:
            if key not in self._entries:
                with outside_of_recordings():
                    self._entries[key] = make()
            return self._entries[key]

    def __len__(self):
        return len(self._entries)

    def __deepcopy__(self, memo):
        return self


class TensorDictionary(WeakTensorKeyDictionary):
    """A dictionary whose keys are tensor objects, whatever their content; an entry lives as long as its tensor.

    A deep copy, which ComfyUI makes for another device, is empty.
    """

    def __deepcopy__(self, memo):
        return type(self)()


class MemoizedLayer(torch.nn.Module):
    """A layer that computes its result once for each tensor object. Callers do not change the results."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.results = TensorDictionary()

    def forward(self, argument, *others):
        if torch.is_grad_enabled():
            return self.layer(argument, *others)
        result = self.results.get(argument)
        if result is None:
            with outside_of_recordings():
                result = self.results[argument] = self.layer(argument, *others)
        return result


BYTES_OF_A_PICTURE = 4096  # roughly: its faces and an embedding

adapters = Cache("adapters", lambda adapter: adapter.bytes)
analyses = Cache("analyses", lambda analysis: analysis.bytes)
# many small long-lived entries fragment the heap, and the memory of a sampling could not be given back
pictures = Cache("pictures", lambda picture: BYTES_OF_A_PICTURE, 500 * BYTES_OF_A_PICTURE)
sweeps = Cache("sweeps", lambda pictures: pictures.nbytes, 512 * MIB)
identities = Cache("identities", lambda identity: identity.bytes, 128 * MIB)
ALL = (adapters, analyses, pictures, identities, sweeps)


def statistics():
    """Returns {name of a cache: its `Cache.statistics`}."""
    return {cache.name: cache.statistics() for cache in ALL}


def clear():
    """Forgets everything; what is in use elsewhere stays with its users."""
    for cache in ALL:
        cache.clear()


def tensor_key(tensor):
    """Returns a tensor's content as a key: 128-bit hash of its bytes, shape, dtype."""
    with performance.stage("look in the cache"):
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return xxhash.xxh3_128_digest(data), tuple(tensor.shape), tensor.dtype


def file_key(path):
    """Returns a file's identity as a key: its real path, inode and size, and when content and inode last changed, in ns.

    OSError if there is no such file. The inode and its time also change for a replaced file of the same
    size whose time of modification a copying tool has set back.
    """
    path = os.path.realpath(path)
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def identity_key(value):
    """Returns a key that is equal as long as all objects in a value are the same ones; numbers and texts count by content.

    value: anything; lists, tuples and dictionaries are looked into.
    """
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, dict):
        return tuple((name, identity_key(inner)) for name, inner in value.items())
    return tuple(map(identity_key, value)) if isinstance(value, list | tuple) else object_key(value)


_serials = itertools.count()
_serial_of = WeakIdKeyDictionary()  # equal objects are not one object, and not all of them can be hashed


def object_key(thing):
    """Returns a number for an object whose content cannot be compared; unlike id(), it is never given to another one."""
    if thing not in _serial_of:
        _serial_of[thing] = next(_serials)
    return _serial_of[thing]
