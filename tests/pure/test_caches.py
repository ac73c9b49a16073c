"""What is kept, under which key, for how long."""

import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


def test_an_exception_leaves_nothing_behind():
    cache = bounded()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("key", lambda: 1 / 0, "make")
    assert cache.get_or_make("key", lambda: "value", "make") == "value"


class Thing:
    """Something that can be referred to weakly."""


def test_without_a_budget_a_value_is_kept_while_somebody_has_it():
    cache = bounded(budget=None)
    thing = cache.get_or_make("key", Thing, "make")
    assert cache.get_or_make("key", Thing, "make") is thing
    del thing
    gc.collect()
    assert cache.statistics()["entries"] == 0


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
