"""What is kept, under which key, for how long."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from instantid_swift import caches
from instantid_swift.caches import ByteCache


def bounded(budget=30, size=10, **options):
    """A cache whose entries all have the same size."""
    return ByteCache(budget, lambda value: size, **options)


def test_computed_once():
    cache, made = bounded(), []
    for _ in range(3):
        assert cache.get_or_make("key", lambda: made.append(1) or "value") == "value"
    assert len(made) == 1
    counted = cache.statistics()
    assert [counted[name] for name in ("entries", "bytes", "budget", "hits", "misses")] == [1, 10, 30, 2, 1]


def test_time_saved_is_what_making_took_for_each_hit(monkeypatch):
    ticks = iter([1.0, 1.5])
    monkeypatch.setattr(caches.time, "perf_counter", lambda: next(ticks))
    cache = bounded()
    for _ in range(4):
        cache.get_or_make("key", str)
    assert cache.statistics()["seconds_saved"] == 1.5


def keys_kept(cache, keys):
    """Those of the keys that need not be made."""
    made = []
    for key in keys:
        cache.get_or_make(key, lambda key=key: made.append(key) or 0)
    return [key for key in keys if key not in made]


def test_the_least_recently_used_goes_first():
    cache = bounded()
    keys_kept(cache, "abcad")
    assert cache.statistics()["bytes"] == 30
    assert keys_kept(cache, "adc") == ["a", "d", "c"]


def test_what_is_larger_than_the_budget_passes_through():
    cache = bounded(size=31)
    assert cache.get_or_make("key", lambda: "value") == "value"
    assert cache.statistics()["entries"] == 0


def test_a_smaller_budget_takes_effect_at_once():
    cache = bounded()
    keys_kept(cache, "abca")
    cache.budget = 20
    assert cache.statistics()["bytes"] == 20 and cache.budget == 20
    assert keys_kept(cache, "ac") == ["a", "c"]
    cache.budget = 30
    assert keys_kept(cache, "ac") == ["a", "c"]


def test_an_exception_leaves_nothing_behind():
    cache = bounded()
    for error in (ZeroDivisionError, KeyboardInterrupt):
        def fail(error=error):
            raise error
        with pytest.raises(error):
            cache.get_or_make("key", fail)
    assert cache.get_or_make("key", lambda: "value") == "value"
    assert not cache._making


def test_what_was_begun_before_clear_is_not_kept():
    """/free while a photo is being looked at."""
    cache = bounded(shared=True)
    cache.get_or_make("key", lambda: cache.clear() or Thing())
    assert cache.statistics()["entries"] == 0 and not cache._elsewhere


class Thing:
    """Something that can be referred to weakly."""


def test_what_does_not_fit_is_found_while_somebody_has_it():
    cache = bounded(budget=5, shared=True)
    thing = cache.get_or_make("key", Thing)
    assert cache.get_or_make("key", Thing) is thing
    del thing
    gc.collect()
    misses = cache.statistics()["misses"]
    cache.get_or_make("key", Thing)
    assert cache.statistics()["misses"] == misses + 1


def test_what_fits_stays_when_nobody_has_it():
    """ComfyUI under --cache-none drops the outputs of loaders after every run."""
    cache, made = bounded(shared=True), []
    for _ in range(3):
        cache.get_or_make("key", lambda: made.append(1) or Thing())
        gc.collect()
    assert len(made) == 1


def test_sixteen_threads_and_random_exceptions():
    """Each key is computed by one thread at a time, and nothing half-made is ever handed out or kept."""
    cache = bounded(budget=1000)
    inside, overlaps, half_made, results = [], [], [], []
    start = threading.Barrier(16)

    def make(key, random):
        if key in inside:
            overlaps.append(key)
        inside.append(key)
        value = []
        try:
            value.append(key)
            if random.random() < 0.3:
                raise ZeroDivisionError
            value.append(key)
            return value
        finally:
            inside.remove(key)

    def ask(number):
        random = Random(number)
        start.wait()
        for _ in range(300):
            key = random.randrange(6)
            try:
                value = cache.get_or_make(key, lambda key=key: make(key, random))
            except ZeroDivisionError:
                continue
            results.append(key)
            if value != [key, key]:
                half_made.append(key)
            if random.random() < 0.05:
                cache.clear()

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    assert not overlaps and not half_made and not cache._making
    assert set(results) == set(range(6)) and cache.statistics()["hits"]


def test_sixteen_threads_compute_one_key_once():
    cache, inside, made = bounded(), threading.Barrier(16), []

    def ask(_):
        inside.wait()
        return cache.get_or_make("key", lambda: made.append(1) or Thing())
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(ask, range(16)))) == 1
    assert len(made) == 1


def test_different_keys_do_not_wait_for_each_other():
    """While one is being made, another is: both makers meet."""
    cache, both = bounded(), threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda key: cache.get_or_make(key, lambda: both.wait(timeout=30)), "ab"))


@given(st.data())
def test_any_changed_element_is_another_key(data):
    """Whatever the shape and dtype, wherever the element; and so are another shape and another dtype of the same bytes."""
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.uint8]))
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    tensor = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))).to(dtype)
    key = caches.tensor_key(tensor)
    place = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    changed = tensor.clone()
    changed[place] = 255 - changed[place]
    assert caches.tensor_key(tensor.clone()) == key
    assert len({key, caches.tensor_key(changed), caches.tensor_key(tensor[None]),
                caches.tensor_key(tensor.view({4: torch.int32, 2: torch.int16, 1: torch.int8}[tensor.element_size()]))}) == 4


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
    numbers = set()
    for _ in range(50):
        numbers.add(caches.object_key(Thing()))
    assert len(numbers) == 50
