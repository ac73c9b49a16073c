"""What is kept, under which key, for how long."""

import gc
import threading

import pytest
import torch
from instantid_swift import caches
from instantid_swift.caches import ByteCache, WeakCache


def test_computed_once():
    cache, made = ByteCache(100), []
    for _ in range(3):
        assert cache.get_or_make("key", lambda: made.append(1) or "value", lambda value: 10) == "value"
    assert len(made) == 1
    assert cache.statistics() == {"entries": 1, "bytes": 10, "hits": 2, "misses": 1}


def test_the_least_recently_used_goes_first():
    cache = ByteCache(30)
    for key in ("a", "b", "c", "a", "d"):
        cache.get_or_make(key, lambda: 0, lambda value: 10)
    made = []
    for key in ("a", "b"):
        cache.get_or_make(key, lambda key=key: made.append(key), lambda value: 10)
    assert made == ["b"]
    assert cache.statistics()["bytes"] == 30


def test_what_is_larger_than_the_bound_passes_through():
    cache = ByteCache(30)
    assert cache.get_or_make("key", lambda: "value", lambda value: 31) == "value"
    assert cache.statistics()["entries"] == 0


def test_an_exception_leaves_nothing_behind():
    cache = ByteCache(30)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("key", lambda: 1 / 0, lambda value: 1)
    assert cache.get_or_make("key", lambda: "value", lambda value: 1) == "value"
    assert not cache._making


def test_two_threads_compute_one_key_once():
    cache, inside, made = ByteCache(30), threading.Barrier(2), []

    def ask():
        inside.wait()
        cache.get_or_make("key", lambda: made.append(1), lambda value: 1)
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_weak_entries_go_with_their_user():
    class Thing:
        pass
    cache = WeakCache()
    thing = cache.get_or_make("key", Thing)
    assert cache.get_or_make("key", Thing) is thing
    del thing
    gc.collect()
    assert cache.statistics()["entries"] == 0


def test_one_changed_pixel_is_another_key():
    """Keyed by address, the original's would-be successor gave 38 of 50 photos another person's face."""
    image = torch.rand(1, 8, 8, 3)
    before = caches.tensor_key(image)
    image[0, 3, 4, 1] += 0.5
    assert caches.tensor_key(image) != before


def test_dtype_and_shape_are_in_the_key():
    zeros = torch.zeros(2, 2)
    assert len({caches.tensor_key(t) for t in (zeros, zeros.half(), zeros.flatten(), zeros[:, :1], zeros[:0])}) == 5


def test_equal_content_is_one_key_wherever_it_lies():
    image = torch.rand(1, 4, 6, 3)
    assert caches.tensor_key(image) == caches.tensor_key(image.clone()) == caches.tensor_key(image.mT.contiguous().mT)


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
    class Thing:
        pass
    numbers = set()
    for _ in range(50):
        numbers.add(caches.object_key(Thing()))
    assert len(numbers) == 50
