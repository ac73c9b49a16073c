"""What is kept, under which key, for how long."""

import gc

import torch
from instantid_swift import caches
from instantid_swift.caches import Cache


def bounded(budget=30, size=10):
    """A cache whose entries all have the same size."""
    return Cache("things", lambda value: size, budget)


def test_computed_once():
    cache, made = bounded(), []
    for _ in range(3):
        assert cache.get_or_make("key", lambda: made.append(1) or "value", "make") == "value"
    assert len(made) == 1 and cache.statistics() == {"entries": 1, "bytes": 10, "hits": 2, "misses": 1}


def keys_kept(cache, keys):
    """Those of the keys that need not be made."""
    made = []
    for key in keys:
        cache.get_or_make(key, lambda key=key: made.append(key) or 0, "make")
    return [key for key in keys if key not in made]


def test_the_least_recently_used_goes_first():
    cache = bounded()
    keys_kept(cache, "abcad")
    assert cache.statistics()["bytes"] == 30
    assert keys_kept(cache, "adc") == ["a", "d", "c"]


def test_what_is_larger_than_the_budget_passes_through():
    cache = bounded(size=31)
    assert cache.get_or_make("key", lambda: "value", "make") == "value"
    assert cache.statistics()["entries"] == 0


class Thing:
    """Something that can be referred to weakly."""


def test_without_a_budget_a_value_is_kept_while_somebody_has_it():
    cache = bounded(budget=None)
    thing = cache.get_or_make("key", Thing, "make")
    assert cache.get_or_make("key", Thing, "make") is thing
    del thing
    gc.collect()
    assert cache.statistics()["entries"] == 0


def test_the_key_of_a_tensor_is_its_content():
    """Keyed by address, the original's would-be successor gave 38 of 50 photos another person's face."""
    image = torch.rand(1, 4, 6, 3)
    before = caches.tensor_key(image)
    assert caches.tensor_key(image.clone()) == caches.tensor_key(image.mT.contiguous().mT) == before
    image[0, 3, 4, 1] += 0.5
    assert caches.tensor_key(image) != before
    zeros = torch.zeros(2, 2)
    assert len({caches.tensor_key(t) for t in (zeros, zeros.half(), zeros.bfloat16(), zeros.flatten(), zeros[:, :1])}) == 5


def test_a_replaced_file_is_another_key(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = caches.file_key(path)
    path.write_bytes(b"three")
    assert caches.file_key(path) != before
    link = tmp_path / "link"
    link.symlink_to(path)
    assert caches.file_key(link) == caches.file_key(path)


def test_an_objects_number_is_never_given_again():
    assert len({caches.object_key(Thing()) for _ in range(50)}) == 50
