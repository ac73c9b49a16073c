"""The fused kernel, run by Triton's interpreter on the CPU; and where it cannot run, the exact terms."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from conftest import CHECKOUT
from instantid_swift.CrossAttentionPatch import SAMPLING_CACHE_KEY, AttentionPatch
from instantid_swift.identity import fused as fused_attention
from instantid_swift.identity.bank import Identity
from instantid_swift.identity.fused import FusedTerm, with_fused
from instantid_swift.identity.masks import LatentMask
from instantid_swift.identity.terms import ForeignTerm, IdentityTerm, SamplingCache, Window

ALWAYS = Window(999999999.9, 0.0)
WIDTH = 64

# one, two and three identities; 16, 32 and 48 tokens together; with and without masks; rows that fill no whole block
INTERPRETED = f"""
import sys, types
import torch
package = types.ModuleType("pack")
package.__path__ = [{str(CHECKOUT)!r}]
sys.modules["pack"] = package
from pack.fused_attention import add_identities

generator = torch.Generator().manual_seed(0)
def random(*shape):
    return torch.randn(*shape, generator=generator)

def exact(q, k, v, heads):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
    for counts, masked, rows, heads, width in (((16,), False, 64, 2, 16), ((16, 16), True, 70, 2, 32),
                                               ((32, 16, 48), True, 33, 1, 64)):
        batch = 2
        q, out = random(batch, rows, heads * width).to(dtype), random(batch, rows, heads * width).to(dtype)
        places = 16 if max(counts) == 16 else 64
        keys, values = (torch.zeros(len(counts), batch, places, heads * width, dtype=dtype) for _ in range(2))
        for i, count in enumerate(counts):
            keys[i, :, :count], values[i, :, :count] = random(batch, count, heads * width), random(batch, count, heads * width)
        weights = torch.tensor([0.7, -0.4, 1.3][:len(counts)])
        masks = torch.rand(len(counts), batch, rows, generator=generator) if masked else None
        expected = out.double()
        for i, count in enumerate(counts):
            term = exact(q.double(), keys[i, :, :count].double(), values[i, :, :count].double(), heads) * weights[i]
            expected += term * masks[i][:, :, None] if masked else term
        add_identities(out, q, keys, values, weights, torch.tensor(counts, dtype=torch.int32), masks, heads)
        error = (out.double() - expected).abs().max().item()
        assert error < tolerance * expected.abs().max(), (dtype, counts, error)
print("equal")
"""


def test_the_kernel_computes_the_formula():
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env={**os.environ, "TRITON_INTERPRET": "1"},
                          capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


@pytest.fixture
def terms(random):
    """Two identities, the first masked."""
    identities = [Identity(random(1, 16, 2048), random(1, 16, 2048), [random(2, 16, WIDTH)], [random(2, 16, WIDTH)])
                  for _ in range(2)]
    return [IdentityTerm(identity, 0, weight, ALWAYS, mask)
            for identity, weight, mask in zip(identities, (0.7, 0.4), (LatentMask(torch.rand(1, 8, 8)), None), strict=True)]


OPTIONS = {"n_heads": 4, "cond_or_uncond": [1, 0], "original_shape": [2, 4, 16, 16], "sigmas": torch.tensor([5.0])}


def test_without_the_kernel_the_exact_terms_run_and_it_is_said_once(terms, random, caplog):
    q, k, v = random(2, 64, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)
    fused_attention._log_once.cache_clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            fused = AttentionPatch(terms=with_fused(with_fused((), terms[0]), terms[1]))(q, k, v, OPTIONS)
    assert torch.equal(fused, AttentionPatch(terms=terms)(q, k, v, OPTIONS))
    line, = (record.getMessage() for record in caplog.records)
    assert "needs a CUDA device, and this is cpu. The exact terms run instead" in line


def test_identities_share_one_pass(terms, random, monkeypatch):
    """What reaches the kernel: one call, with both identities stacked, weights and masks beside them."""
    calls = []
    monkeypatch.setattr(fused_attention, "reason_not_on", lambda device: None)
    monkeypatch.setattr(fused_attention, "add_identities", lambda out, *given: calls.append(given))
    patch = AttentionPatch(terms=with_fused(with_fused((), terms[0]), terms[1]))
    q, k, v = random(2, 64, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)
    sampling_cache = SamplingCache()
    for _ in range(2):
        patch(q, k, v, {**OPTIONS, SAMPLING_CACHE_KEY: sampling_cache})
    (_, keys, values, weights, tokens, masks, heads), again = calls
    assert torch.equal(keys, torch.stack([term.identity.keys[0] for term in terms]))
    assert torch.equal(values, torch.stack([term.identity.values[0] for term in terms]))
    assert weights.tolist() == pytest.approx([0.7, 0.4]) and tokens.tolist() == [16, 16] and heads == 4
    assert masks.shape == (2, 2, 64) and masks[1].min() == 1 and masks[0].max() < 1
    assert again[1] is keys and again[5] is masks, "stacked once"


@pytest.mark.parametrize("q, out, dtype, heads, reason", [
    (torch.float64, torch.float64, torch.float64, 1, "does not take q in torch.float64"),
    (torch.float16, torch.float32, torch.float16, 1, "a sum in torch.float32"),
    (torch.float16, torch.float16, torch.float32, 1, "an identity in torch.float32"),
    (torch.float16, torch.float16, torch.float16, 8, "heads 8 wide"),
    (torch.float16, torch.float16, torch.float16, 1, "needs a CUDA device"),
])
def test_why_not(q, out, dtype, heads, reason):
    assert reason in fused_attention.why_not(torch.zeros(1, 1, 64, dtype=q), torch.zeros(1, 1, 64, dtype=out), dtype, heads)


def test_other_terms_in_between_are_kept_in_order(terms):
    foreign = ForeignTerm(lambda *args, **kwargs: 0, {})
    mixed = with_fused((terms[0], *with_fused((foreign,), terms[0])), terms[1])
    assert mixed[0] is terms[0] and mixed[1] is foreign
    assert isinstance(mixed[2], FusedTerm) and mixed[2].terms == (terms[0], terms[1])
