"""Merging of references, the counterpart of a face, K and V for a batch."""

import mmap
from pathlib import Path

import pytest
import torch
from instantid_swift.identity.bank import Identity, merge_embeddings, unconditional_embedding
from instantid_swift.identity.terms import SamplingCache, UNetCall

CPU = torch.device("cpu")


@pytest.fixture
def embeddings():
    return torch.randn(3, 1, 512, generator=torch.Generator().manual_seed(5)) * 20


def test_average(embeddings):
    assert torch.equal(merge_embeddings(embeddings, "average"), (sum(embeddings) / 3)[None])


def test_norm_average_divides_by_the_norm_along_the_references(embeddings):
    merged = merge_embeddings(embeddings, "norm average")
    expected = sum(embeddings / sum(e ** 2 for e in embeddings) ** 0.5) / 3
    torch.testing.assert_close(merged, expected[None])


def test_concat_keeps_all(embeddings):
    assert torch.equal(merge_embeddings(embeddings, "concat"), embeddings)


@pytest.mark.parametrize("method", ["average", "norm average", "concat"])
def test_one_reference_is_left_as_it_is(embeddings, method):
    assert torch.equal(merge_embeddings(embeddings[:1], method), embeddings[:1])


def test_unknown_method_is_named(embeddings):
    with pytest.raises(ValueError, match="'add'.*choose average, norm average or concat"):
        merge_embeddings(embeddings, "add")


def test_without_noise_the_counterpart_is_zero(embeddings):
    assert not unconditional_embedding(embeddings, 0).any()


def test_noise_is_what_the_global_generator_would_give(embeddings):
    noise = unconditional_embedding(embeddings, 0.35)
    before = torch.get_rng_state()
    torch.manual_seed(int(embeddings.sum().item()) % 1000000007)
    expected = 0.35 * torch.rand(embeddings.shape)
    torch.set_rng_state(before)
    assert torch.equal(noise, expected)


def test_noise_of_a_negative_sum():
    """The seed of a generator may not be negative; Python's remainder never is."""
    assert unconditional_embedding(torch.full((1, 1, 512), -1.0), 1.0).max() <= 1


def test_global_random_state_is_untouched(embeddings):
    before = torch.get_rng_state()
    unconditional_embedding(embeddings, 1.0)
    assert torch.equal(torch.get_rng_state(), before)


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


def test_the_usual_batch_needs_no_copy(identity):
    """Both passes, one latent, in the order in which ComfyUI batches them."""
    assert identity.keys_and_values(call(2, [1, 0]))[0][0].data_ptr() == identity.keys[0].data_ptr()


def test_a_layout_follows_device_and_dtype(identity):
    assert identity.keys_and_values(call(2, [1, 0], torch.device("meta")))[0][0].device.type == "meta"
    assert identity.keys_and_values(call(2, [1, 0], dtype=torch.bfloat16))[0][0].dtype == torch.bfloat16


def test_tokens_handed_out_are_copies(identity):
    for tokens in identity.tokens(CPU):
        tokens += 1
    assert not identity.cond.any() and not identity.uncond.any()


def real_size():
    """An identity of 10.6 MB."""
    tokens = torch.zeros(1, 16, 2048, dtype=torch.float16)
    bank = [torch.ones(2, 16, 1280, dtype=torch.float16)] * 64
    return Identity(tokens, tokens, bank, bank)


def test_memory_of_changing_persons_is_not_the_heaps():
    """The process grew by gigabytes as persons changed: banks that are kept in the heap, among a sampling's blocks, keep it
    from shrinking. Each lies on pages of its own, with the tokens."""
    person = real_size()
    storages = {tensor.untyped_storage().data_ptr() for tensor in (person.cond, person.uncond, *person.keys, *person.values)}
    assert len(storages) == 1 and storages.pop() % mmap.PAGESIZE == 0
    assert all(view.eq(1).all() for view in (*person.keys, *person.values)) and not person.cond.any()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the process's memory is read as Linux tells it")
def test_a_bank_that_goes_gives_its_memory_back():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    real_size()
    kept = [real_size() for _ in range(20)]
    among_them = torch.ones(1000)  # something that stays, above them in the heap
    before = resident()
    del kept
    assert before - resident() > 20 * 10_000_000 and among_them.all()


def test_an_identity_made_while_comfyui_runs_nodes_is_an_ordinary_tensor(identity):
    """ComfyUI runs nodes in inference mode, whose tensors autograd refuses later."""
    with torch.inference_mode():
        inside = real_size()
    assert not inside.keys[0].is_inference() and not inside.cond.is_inference()
