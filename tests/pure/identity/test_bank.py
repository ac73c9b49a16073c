"""Merging of references, the counterpart of a face, K and V for a batch."""

import mmap

import pytest
import torch
from instantid_swift.identity.bank import Identity, merge_embeddings, unconditional_embedding
from instantid_swift.identity.terms import SamplingCache, UNetCall

CPU = torch.device("cpu")


@pytest.fixture
def embeddings():
    return torch.randn(3, 1, 512, generator=torch.Generator().manual_seed(5)) * 20


def test_methods_of_merging(embeddings):
    """norm average divides by the norm along the references, an old slip."""
    assert torch.equal(merge_embeddings(embeddings, "average"), (sum(embeddings) / 3)[None])
    assert torch.equal(merge_embeddings(embeddings, "concat"), embeddings)
    torch.testing.assert_close(merge_embeddings(embeddings, "norm average"),
                               (sum(embeddings / sum(e ** 2 for e in embeddings) ** 0.5) / 3)[None])
    assert all(torch.equal(merge_embeddings(embeddings[:1], method), embeddings[:1]) for method in ("norm average", "concat"))


def test_noise_is_what_the_global_generator_would_give(embeddings):
    before = torch.get_rng_state()
    noise = unconditional_embedding(embeddings, 0.35)
    assert torch.equal(torch.get_rng_state(), before), "which is left as it was"
    torch.manual_seed(int(embeddings.sum().item()) % 1000000007)
    expected = 0.35 * torch.rand(embeddings.shape)
    torch.set_rng_state(before)
    assert torch.equal(noise, expected) and not unconditional_embedding(embeddings, 0).any()
    assert unconditional_embedding(torch.full((1, 1, 512), -1.0), 1.0).max() <= 1, "no seed may be negative"


@pytest.fixture
def identity():
    """One pair of width 2, whose keys and values tell where they come from."""
    rows = torch.tensor([[[2.0, 2.0]], [[1.0, 1.0]]])  # uncond, cond
    return Identity(torch.zeros(1, 1, 2048), torch.zeros(1, 1, 2048), [rows], [rows * 10])


def call(batch, chunks, device=CPU, dtype=torch.float32, sampling_cache=None):
    return UNetCall(None, device, dtype, batch, chunks, sampling_cache=sampling_cache)


@pytest.mark.parametrize("chunks, batch, expected", [
    ([0], 2, [1, 1]), ([1], 1, [2]), ([1, 0], 2, [2, 1]), ([0, 1], 4, [1, 1, 2, 2]), ([0, 0, 1], 6, [1, 1, 1, 1, 2, 2]),
    ([0, 1, 2], 3, [1, 2, 2]),
])
def test_keys_follow_the_chunks_of_the_batch(identity, chunks, batch, expected):
    (keys, values), = identity.keys_and_values(call(batch, chunks))
    assert keys[:, 0, 0].tolist() == expected
    assert torch.equal(values, keys * 10)


def test_a_layout_is_made_once_in_a_sampling(identity):
    sampling_cache = SamplingCache()
    one, two = (identity.keys_and_values(call(4, [1, 0], sampling_cache=sampling_cache)) for _ in range(2))
    assert one is two
    assert identity.keys_and_values(call(4, [1, 0], sampling_cache=SamplingCache())) is not one


def test_a_layout_follows_device_and_dtype_and_the_usual_batch_needs_no_copy(identity):
    assert identity.keys_and_values(call(2, [1, 0]))[0][0].data_ptr() == identity.keys[0].data_ptr()
    assert identity.keys_and_values(call(2, [1, 0], torch.device("meta")))[0][0].device.type == "meta"
    assert identity.keys_and_values(call(2, [1, 0], dtype=torch.bfloat16))[0][0].dtype == torch.bfloat16


def test_tokens_handed_out_are_copies(identity):
    for tokens in identity.tokens(CPU):
        tokens += 1
    assert not identity.cond.any() and not identity.uncond.any()


def test_memory_of_changing_persons_is_not_the_heaps(random):
    """The process grew by gigabytes as persons changed: banks that are kept in the heap, among a sampling's blocks, keep it
    from shrinking. Each lies on pages of its own, with the tokens."""
    bank, tokens = [random(2, 16, 1280) for _ in range(4)], random(1, 16, 2048)
    with torch.inference_mode():  # in which ComfyUI runs nodes, and whose tensors autograd refuses later
        person = Identity(tokens, -tokens, bank[:2], bank[2:])
    views = (*person.keys, *person.values, person.cond, person.uncond)
    storages = {tensor.untyped_storage().data_ptr() for tensor in views}
    assert len(storages) == 1 and storages.pop() % mmap.PAGESIZE == 0
    assert all(map(torch.equal, views, (*bank, tokens, -tokens))) and not any(view.is_inference() for view in views)
