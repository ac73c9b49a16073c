"""Exact mode equals the formula written out without caches, to the last bit; and what it does not do at each step."""

import pytest
import torch
from oracle import cases
from oracle import fixtures as fx
from reference import reference_model
from stand_ins.counting import counted_operations

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(full_world):
    return full_world


def ours(nodes, world, model, **over):
    """(patched model, its identity)."""
    patched, embeds = cases.patch(nodes, world, model=model, **over)
    terms = next(iter(patched.model_options["transformer_options"]["patches_replace"]["attn2"].values())).terms
    assert torch.equal(embeds["cond"], terms[-1].identity.cond)
    return patched, terms[-1].identity


@pytest.mark.parametrize("dtype, over, sampling", [
    pytest.param(torch.float16, {}, {}, marks=pytest.mark.newest),
    pytest.param(torch.bfloat16, {"weight": 0.37}, {}, marks=pytest.mark.newest),
    (torch.float32, {"weight": 0.37, "noise": 0.3}, {"batch": 3}),
    (torch.float32, {"start_at": 0.2, "end_at": 0.6}, {"steps": 4}),
    (torch.float32, {"weight": -0.5}, {"cfg": 1.0}),
])
def test_latents_equal_the_formula_bit_for_bit(nodes, world, full_loaded, dtype, over, sampling):
    model, _ = full_loaded(dtype)
    patched, identity = ours(nodes, world, model, **over)
    assert identity.keys[0].dtype == dtype
    window = {key: value for key, value in over.items() if key.endswith("_at")}
    reference = reference_model(model, world.instantid, identity.tokens(CPU), over.get("weight", 1.0), **window)
    settings = {"steps": 1, "size": (8, 8), **sampling}
    a, b = (fx.sample(m, world.positive, world.negative, **settings) for m in (patched, reference))
    assert torch.equal(a, b) and a.isfinite().all()
    assert not torch.equal(a, fx.sample(model, world.positive, world.negative, **settings))


def count(model, world, adapter):
    """(host reads, projections of identity tokens) of two sampling steps."""
    projections = []
    hooks = [layer.register_forward_hook(lambda *args: projections.append(1))
             for layers in (adapter.module.to_k, adapter.module.to_v) for layer in layers]
    with counted_operations() as operations:
        fx.sample(model, world.positive, world.negative, steps=2, size=(8, 8))
    for hook in hooks:
        hook.remove()
    return operations["host reads"], operations["linear"], len(projections)


def test_an_identity_adds_no_host_read_and_no_projection(nodes, world):
    """One identity, and two in a row: the linear layers that run are those of the plain model."""
    plain = count(world.model, world, world.instantid)
    model = world.model
    for name in ("a", "b"):
        model = cases.patch(nodes, world, image=fx.portrait(name), model=model)[0]
        assert count(model, world, world.instantid) == plain


def test_the_counting_sees_what_it_counts(nodes, world):
    """The formula without caches reads 70 noise levels and runs 280 projections a step."""
    plain = count(world.model, world, world.instantid)
    _, identity = ours(nodes, world, world.model)
    reference = count(reference_model(world.model, world.instantid, identity.tokens(CPU), 1.0), world, world.instantid)
    assert reference[0] - plain[0] == 2 * 70 and reference[1] - plain[1] == 2 * 280
