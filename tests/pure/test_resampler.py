"""The Resampler against its definition, written out once more with other means."""

import pytest
import torch
from instantid_swift.resampler import PerceiverAttention, Resampler


@pytest.fixture(scope="module")
def attention():
    torch.manual_seed(0)
    return PerceiverAttention().double().eval()


def test_attention_is_softmax_of_scaled_products(attention):
    embeddings, latents = torch.randn(2, 3, 1280, dtype=torch.float64), torch.randn(2, 16, 1280, dtype=torch.float64)
    x, z = attention.norm1(embeddings), attention.norm2(latents)
    keys, values = (torch.cat((x, z), dim=1) @ attention.to_kv.weight.T).chunk(2, dim=-1)
    queries = z @ attention.to_q.weight.T
    out = torch.empty_like(queries)
    for head in range(20):
        part = slice(64 * head, 64 * head + 64)
        weights = torch.softmax(queries[..., part] @ keys[..., part].mT / 8, dim=-1)
        out[..., part] = weights @ values[..., part]
    torch.testing.assert_close(attention(embeddings, latents), out @ attention.to_out.weight.T, rtol=1e-5, atol=1e-6)


def test_parameters_are_those_of_the_checkpoint():
    with torch.device("meta"):
        resampler = Resampler()
        assert resampler(torch.empty(3, 1, 512)).shape == (3, 16, 2048)
    assert round(sum(p.numel() for p in resampler.parameters()) / 1e6) == 82
    assert set(resampler.state_dict()) == {
        "latents", "proj_in.weight", "proj_in.bias", "proj_out.weight", "proj_out.bias", "norm_out.weight", "norm_out.bias",
        *(f"layers.{i}.{name}" for i in range(4) for name in (
            "0.norm1.weight", "0.norm1.bias", "0.norm2.weight", "0.norm2.bias", "0.to_q.weight", "0.to_kv.weight",
            "0.to_out.weight", "1.0.weight", "1.0.bias", "1.1.weight", "1.3.weight"))}
