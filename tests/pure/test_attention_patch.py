"""The attention term, and objects of several packs at one attention key."""

import copy
from types import SimpleNamespace

import pytest
import torch
from instantid_swift.CrossAttentionPatch import KEY, AttentionPatch, prepare_call
from instantid_swift.identity.bank import Identity
from instantid_swift.identity.masks import LatentMask, mask_weights
from instantid_swift.identity.terms import IdentityTerm, UNetCall, Window, attention

WIDTH, HEADS, TOKENS = 32, 4, 64
ALWAYS = Window(999999999.9, 0.0)


@pytest.fixture
def identity(random):
    return Identity(random(1, 16, 2048), random(1, 16, 2048), [random(2, 16, WIDTH)], [random(2, 16, WIDTH)])


@pytest.fixture
def qkv(random):
    return random(2, TOKENS, WIDTH), random(2, 77, WIDTH), random(2, 77, WIDTH)


def options(**more):
    return {"n_heads": HEADS, "cond_or_uncond": [1, 0], "original_shape": [2, 4, 16, 16], "sigmas": torch.tensor([5.0, 5.0]),
            **more}


def plain(q, k, v):
    """Attention by its definition, a head at a time."""
    out = torch.empty_like(q)
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        scores = q[..., part] @ k[..., part].mT * (WIDTH // HEADS) ** -0.5
        out[..., part] = torch.softmax(scores, -1) @ v[..., part]
    return out


def test_the_formula(identity, qkv):
    q, k, v = qkv
    mask = torch.rand(1, 16, 16)
    patch = AttentionPatch(terms=[IdentityTerm(identity, 0, 0.7, ALWAYS, LatentMask(mask))])
    weights = torch.nn.functional.interpolate(mask[None], (8, 8), mode="bilinear").reshape(1, TOKENS, 1)
    expected = plain(q, k, v) + 0.7 * weights * plain(q, identity.keys[0], identity.values[0])
    torch.testing.assert_close(patch(q, k, v, options()), expected)


def test_nothing_given_is_changed(identity, qkv):
    given = [*qkv, identity.keys[0], identity.values[0]]
    before = [t.clone() for t in given]
    AttentionPatch(terms=[IdentityTerm(identity, 0, 0.7, ALWAYS, None)])(*qkv, options())
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def by_the_contract(q, k, v, identity, terms):
    """The sum in q's dtype, each term multiplied by its weight there, by its mask in float32, and rounded before it is added.

    terms: (weight, weights of a mask [b, tokens, 1] or None).
    """
    out = attention(q, k, v, HEADS)
    for weight, mask in terms:
        term = attention(q, identity.keys[0].to(q.dtype), identity.values[0].to(q.dtype), HEADS) * weight
        if mask is not None:
            term = (term * mask).to(q.dtype)
        out = out + term
    return out


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_order_under_a_mask(identity, qkv, dtype, compiled):
    """To the last bit, of three terms one after the other, the weight a number or a tensor."""
    q, k, v = (tensor.to(dtype) for tensor in qkv)
    mask, given = torch.rand(1, 16, 16), options()
    terms = [IdentityTerm(identity, 0, weight, ALWAYS, LatentMask(mask) if chosen else None) for weight, chosen in (
        (0.37, True), (1.1, False), (-0.6, True))]
    given[KEY] = {("input", 4, 0): AttentionPatch(terms=terms).steps(
        UNetCall.from_options(q, given, compiled=compiled))}
    given.update(block=("input", 4), block_index=0)
    weights = mask_weights(mask, TOKENS, 16, 16)
    expected = by_the_contract(q, k, v, identity, [(0.37, weights), (1.1, None), (-0.6, weights)])
    assert torch.equal(AttentionPatch(terms=terms)(q, k, v, given), expected)


def test_a_batch_that_another_pack_has_enlarged(identity, qkv):
    """Attention Couple repeats the positive half for a second region, in a call that was prepared for two entries."""
    q, k, v = (torch.cat([tensor, tensor[1:]]) for tensor in qkv)
    mask = LatentMask(torch.rand(1, 16, 16))
    patch = AttentionPatch(terms=[IdentityTerm(identity, 0, 0.7, ALWAYS, mask)])
    patch.add(constant, value=1.0, sigma_start=10.0, sigma_end=2.0)
    given = options(cond_or_uncond_couple=[1, 0, 0])
    steps = {("input", 4, 0): patch.steps(UNetCall.from_options(qkv[0], given))}
    prepared = {**given, KEY: steps, "block": ("input", 4), "block_index": 0}
    for enlarged in (given, prepared):
        out = patch(q, k, v, enlarged)
        torch.testing.assert_close(out[:2], patch(*qkv, options()))
        assert torch.equal(out[2], out[1])


def in_a_unet_call(patch, qkv, given):
    """As in ComfyUI: `prepare_call` around the UNet, the patch at its place in it."""
    class UNet:
        class_obj = SimpleNamespace(diffusion_model=torch.nn.Module(), manual_cast_dtype=None, get_dtype=lambda: qkv[0].dtype)

        def __call__(self, x, sigma, c_concat, c_crossattn, control, transformer_options):
            return patch(*qkv, {**transformer_options, "n_heads": HEADS, "block": ("input", 4), "block_index": 0})
    given["patches_replace"] = {"attn2": {("input", 4, 0): patch}}
    return prepare_call(UNet(), qkv[0], given["sigmas"], transformer_options=given)


@pytest.mark.parametrize("sigma, applies", [(14.0, False), (10.0, True), (5.0, True), (2.0, True), (1.9, False)])
def test_the_window_includes_its_ends(identity, qkv, sigma, applies):
    patch = AttentionPatch(terms=[IdentityTerm(identity, 0, 1.0, Window(10.0, 2.0), None)])
    without = AttentionPatch()(*qkv, options())
    given = options(sigmas=torch.tensor([sigma]))
    assert torch.equal(patch(*qkv, given), without) != applies
    assert torch.equal(in_a_unet_call(patch, qkv, given), without) != applies


class Sigmas:
    """Noise levels that count how often they are read."""
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return torch.tensor(5.0)


def test_a_window_that_covers_the_run_reads_no_sigma(identity, qkv):
    """Several others read it once per call."""
    for reads, starts, ends in ((0, ALWAYS.start, (ALWAYS.end,)), (1, 10.0, (1.0, 2.0, 6.0))):
        given = options(sigmas=Sigmas())
        terms = [IdentityTerm(identity, 0, 1.0, Window(starts, end), None) for end in ends]
        in_a_unet_call(AttentionPatch(terms=terms), qkv, given)
        assert given["sigmas"].reads == reads


def constant(out, q, k, v, extra_options, value, **kwargs):
    return torch.full_like(out, value)


def test_what_another_pack_adds(qkv):
    patch = AttentionPatch()
    without = patch(*qkv, options())
    patch.add(constant, value=1.0, sigma_start=10.0, sigma_end=2.0)
    patch.add(constant, value=7.0, sigma_start=4.0, sigma_end=0.0)  # not at sigma 5
    torch.testing.assert_close(patch(*qkv, options()), without + 1.0)


def test_what_another_pack_put_there_keeps_its_effect(identity, qkv):
    def base(q, k, v, extra_options):
        return torch.full_like(q, 3.0)
    term = IdentityTerm(identity, 0, 1.0, ALWAYS, None)
    torch.testing.assert_close(AttentionPatch(base, [term])(*qkv, options()) - 3.0,
                               AttentionPatch(terms=[term])(*qkv, options()) - AttentionPatch()(*qkv, options()),
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_independent_and_copy_no_tensor(identity, copied):
    patch = AttentionPatch(terms=[IdentityTerm(identity, 0, 1.0, ALWAYS, LatentMask(torch.ones(1, 8, 8)))])
    other = copied(patch)
    assert other.terms[0] is patch.terms[0]
    other.add(constant, value=1.0)
    assert len(patch.terms) == 1 and len(other.terms) == 2


def test_what_an_attention_override_keeps_is_not_changed(identity, qkv, monkeypatch):
    """Packs that replace ComfyUI's attention may keep its result, for the next step or another block: adding in place drifted
    from call to call (1.6, then 3.2)."""
    kept = plain(*qkv)
    monkeypatch.setitem(AttentionPatch.__call__.__globals__, "unpatched_attention", lambda *args: kept)
    before, patch = kept.clone(), AttentionPatch(terms=[IdentityTerm(identity, 0, 0.7, ALWAYS, None)])
    first, second = (patch(*qkv, options(optimized_attention_override=lambda *args: kept)) for _ in range(2))
    assert torch.equal(kept, before) and torch.equal(first, second)
