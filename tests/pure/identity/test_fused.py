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
from instantid_swift.identity.fused import FusedTerm, Variant, with_fused
from instantid_swift.identity.masks import LatentMask
from instantid_swift.identity.terms import ForeignTerm, IdentityStep, IdentityTerm, SamplingCache, UNetCall, Window

ALWAYS = Window(999999999.9, 0.0)
WIDTH = 64

# one, two and three identities; 16, 32 and 48 tokens together; with and without masks; rows that fill no whole block
INTERPRETED = f"""
import sys, types
import torch
package = types.ModuleType("pack")
package.__path__ = [{str(CHECKOUT)!r}]
sys.modules["pack"] = package
from pack.identity.fused import add_identities

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


@pytest.fixture(autouse=True)
def nothing_was_tried_before():
    fused_attention._reasons.clear()


OPTIONS = {"n_heads": 4, "cond_or_uncond": [1, 0], "original_shape": [2, 4, 16, 16], "sigmas": torch.tensor([5.0])}


def test_without_the_kernel_the_exact_terms_run_and_it_is_said_once_a_sampling(terms, random, caplog):
    q, k, v = random(2, 64, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)
    options = {**OPTIONS, SAMPLING_CACHE_KEY: SamplingCache()}
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            fused = AttentionPatch(terms=with_fused(with_fused((), terms[0]), terms[1]))(q, k, v, options)
    assert torch.equal(fused, AttentionPatch(terms=terms)(q, k, v, OPTIONS))
    line, = (record.getMessage() for record in caplog.records)
    assert "'exact' here instead of 'fused': it needs a CUDA device, and this is cpu" in line


def test_identities_share_one_pass(terms, random, monkeypatch):
    """What reaches the kernel: one call, with both identities stacked, weights and masks beside them."""
    calls = []
    monkeypatch.setattr(fused_attention, "reason_not_to_run", lambda variant: None)
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


CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
IN_SDXL = Variant(GPU, torch.float16, head_width=64, identities=1, tokens=16, masked=False)


@pytest.mark.parametrize("variant, reason", [
    (IN_SDXL._replace(device=CPU), "it needs a CUDA device, and this is cpu"),
    (IN_SDXL._replace(dtype=torch.float64), "it does not take torch.float64"),
    (IN_SDXL._replace(head_width=40), "it does not take heads 40 wide"),
    (IN_SDXL._replace(tokens=256), "it does not take 256 tokens of an identity at once"),
    (IN_SDXL._replace(tokens=128, dtype=torch.float32), "it does not take 128 tokens of an identity at once"),
])
def test_what_the_kernel_does_not_take(variant, reason):
    assert reason in fused_attention.reason_not_to_run(variant)


@pytest.mark.parametrize("capability, refused", [((7, 5), True), ((8, 0), False), ((12, 0), False)])
def test_gpus_older_than_ampere_are_refused_without_a_trial(monkeypatch, capability, refused):
    """Triton compiles for them, but takes minutes (186 seconds for one variant), and then without matrix units."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert bool(fused_attention._reason_without_a_trial(IN_SDXL)) == refused


def on_a_gpu(monkeypatch, launch):
    """As if there were a GPU on which launch stands for the kernel. Its tensors lie on the CPU."""
    monkeypatch.setattr(fused_attention, "_reason_without_a_trial", lambda variant: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(fused_attention, "add_identities", launch)


def test_a_kernel_that_cannot_be_compiled_is_found_before_the_blocks_run(terms, random, monkeypatch, caplog):
    """No C compiler, or a Triton that does not know the GPU: only a launch tells. It was first tried inside the UNet."""
    launches = []

    def launch(*args, **kwargs):
        launches.append(args)
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")
    on_a_gpu(monkeypatch, launch)
    q, k, v = random(2, 64, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)
    patch = AttentionPatch(terms=with_fused((), terms[0]))
    with caplog.at_level(logging.INFO):
        steps = patch.steps(UNetCall.of(q, OPTIONS))
        assert [type(step) for step in steps] == [IdentityStep] and len(launches) == 1
        again = patch(q, k, v, OPTIONS)
    assert len(launches) == 1, "tried once"
    assert torch.equal(again, AttentionPatch(terms=terms[:1])(q, k, v, OPTIONS))
    assert "'exact' here instead of 'fused': Triton cannot be used (Failed to find C compiler.)." in caplog.text


def test_a_launch_that_fails_later_falls_back_as_well(terms, random, monkeypatch, caplog):
    """The trial has gone well, the real launch has not: exact terms, now and from now on."""
    launches = []

    def launch(out, q, *args, **kwargs):
        launches.append(q.shape)
        if q.shape[1] > 1:
            raise RuntimeError("out of resource: shared memory")
    on_a_gpu(monkeypatch, launch)
    q, k, v = random(2, 64, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)
    patch = AttentionPatch(terms=with_fused(with_fused((), terms[0]), terms[1]))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert torch.equal(patch(q, k, v, OPTIONS), AttentionPatch(terms=terms)(q, k, v, OPTIONS))
    assert len([shape for shape in launches if shape[1] > 1]) == 1
    assert "out of resource: shared memory" in caplog.text


def test_running_out_of_memory_is_comfyuis_to_handle(terms, random, monkeypatch):
    def launch(out, q, *args, **kwargs):
        if q.shape[1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
    on_a_gpu(monkeypatch, launch)
    with pytest.raises(torch.OutOfMemoryError):
        AttentionPatch(terms=with_fused((), terms[0]))(random(2, 64, WIDTH), *[random(2, 77, WIDTH)] * 2, OPTIONS)


def test_a_sum_in_another_precision_is_left_to_the_exact_terms(terms, random, monkeypatch):
    """Another pack below may have changed it."""
    on_a_gpu(monkeypatch, lambda *args, **kwargs: None)
    step, = FusedTerm(terms).steps(UNetCall.of(random(2, 64, WIDTH), OPTIONS))
    q, out = random(2, 64, WIDTH), random(2, 64, WIDTH).double()
    expected = out
    for term in terms:
        for exact in term.steps(step.call):
            expected = exact(expected, False, q, None, None, OPTIONS)
    assert torch.equal(step(out, False, q, None, None, OPTIONS), expected)


# bytes of shared memory that a block may have, by compute capability (CUDA C++ Programming Guide, technical specifications)
SHARED_MEMORY = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


def compiled_for(capability, dtype, tokens, identities, masked):
    """The kernel, compiled ahead of time for SDXL's heads."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    kernel, name = fused_attention.kernel(), NAMES[dtype]
    constants = {"IDENTITIES": identities, "TOKENS": tokens, "WIDTH": 64, "ROWS": fused_attention.BLOCK_ROWS,
                 "MASKED": masked, "PRECISION": "ieee" if dtype == torch.float32 else "tf32"}
    types = {argument: "i32" for argument in kernel.arg_names}
    types |= dict.fromkeys(("q_pointer", "k_pointer", "v_pointer", "out_pointer"), f"*{name}")
    types |= {"weight_pointer": "*fp32", "tokens_pointer": "*i32", "mask_pointer": "*fp32", "scale": "fp32"}
    types |= dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    return triton.compile(ASTSource(kernel, types, places), target=GPUTarget("cuda", capability, 32))


@pytest.mark.parametrize("capability", SHARED_MEMORY)
@pytest.mark.parametrize("dtype, tokens, identities, masked", [
    (torch.float16, 128, 1, True), (torch.bfloat16, 16, 2, False),
    pytest.param(torch.bfloat16, 128, 2, True, marks=pytest.mark.long),
    pytest.param(torch.float32, 16, 1, False, marks=pytest.mark.long),
    pytest.param(torch.float32, 64, 1, True, marks=pytest.mark.long),
])
def test_it_compiles_for_every_gpu_that_it_accepts(capability, dtype, tokens, identities, masked):
    """Ahead of time, without a GPU: the most tokens that are accepted fit into shared memory, and offsets have 64 bits."""
    pytest.importorskip("triton")
    assert fused_attention.OLDEST_CAPABILITY <= (capability // 10, capability % 10)
    assert tokens * dtype.itemsize <= fused_attention.MOST_TILE_BYTES
    compiled = compiled_for(capability, dtype, tokens, identities, masked)
    assert 0 < compiled.metadata.shared <= SHARED_MEMORY[capability]
    products = [line for line in compiled.asm["ttir"].splitlines() if "arith.muli" in line]
    assert any(line.partition(":")[2].split()[0] == "i64" for line in products), "the batch's number times its stride"


def test_other_terms_in_between_are_kept_in_order(terms):
    foreign = ForeignTerm(lambda *args, **kwargs: 0, {})
    mixed = with_fused((terms[0], *with_fused((foreign,), terms[0])), terms[1])
    assert mixed[0] is terms[0] and mixed[1] is foreign
    assert isinstance(mixed[2], FusedTerm) and mixed[2].terms == (terms[0], terms[1])
