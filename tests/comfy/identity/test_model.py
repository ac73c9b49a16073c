"""What becomes of the model: nothing given is changed, nothing accumulates, no tensor is copied."""

import random

import numpy as np
import pytest
import torch
from instantid_swift.identity.blocks import SDXL_BLOCKS
from instantid_swift.options.nodes import Options
from oracle import cases
from oracle import fixtures as fx
from stand_ins.counting import counted_operations
from stand_ins.foreign import WithoutAdd, apply_foreign


def patches(model):
    return model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})


def latents(model, world, steps=1):
    return fx.sample(model, world.positive, world.negative, steps=steps, size=(8, 8))


@pytest.mark.newest
def test_apply_acts_on_sixty_blocks_and_the_patch_node_on_all(nodes, world):
    """The original's Apply nodes never reached the middle block, and pictures depend on it."""
    assert set(patches(cases.apply(nodes, world)[0])) == {tuple(b) for b in SDXL_BLOCKS if b.section != "middle"}
    assert set(patches(cases.advanced(nodes, world)[0])) == {tuple(b) for b in SDXL_BLOCKS if b.section != "middle"}
    assert set(patches(cases.patch(nodes, world)[0])) == {tuple(b) for b in SDXL_BLOCKS}


def test_two_chained_identities_rerun_with_other_weights(nodes, world):
    """Since clone() shares objects, a patch that adds to what it finds adds to the model that ComfyUI keeps."""
    first = cases.apply(nodes, world, mask=cases.left_half())[0]
    for weight in (0.2, 1.4, 0.7):
        second = cases.apply(nodes, world, image=fx.portrait("b"), model=first, weight=weight)[0]
    fresh = cases.apply(nodes, world, mask=cases.left_half())[0]
    fresh = cases.apply(nodes, world, image=fx.portrait("b"), model=fresh, weight=0.7)[0]
    assert torch.equal(latents(second, world), latents(fresh, world))
    assert {len(patch.terms) for patch in patches(second).values()} == {2}
    assert {len(patch.terms) for patch in patches(first).values()} == {1}


def test_a_later_pack_that_adds_at_every_run(nodes, world):
    """ComfyUI keeps our output; the other pack's node runs again and again on clones of it."""
    ours = cases.patch(nodes, world)[0]
    before = latents(ours, world)
    once = latents(apply_foreign(ours, 0.5), world)
    for _ in range(3):
        again = apply_foreign(ours, 0.5)
    assert torch.equal(latents(again, world), once)
    assert torch.equal(latents(ours, world), before)
    assert not torch.equal(once, before)


def test_an_earlier_pack_keeps_its_effect(nodes, world):
    """Its terms and ours, in any order, come to the same sum: theirs, ours, theirs again, which calls .add on ours."""
    theirs = apply_foreign(world.model, 0.25)
    objects = {key: (patch, list(patch.callbacks)) for key, patch in patches(theirs).items()}
    mixed = apply_foreign(cases.patch(nodes, world, model=theirs)[0], 0.25)
    other_order = apply_foreign(cases.patch(nodes, world)[0], 0.5)
    a, b = latents(mixed, world), latents(other_order, world)
    assert (a - b).abs().max() <= 1e-4 * a.std()
    assert {key: (patch, patch.callbacks) for key, patch in patches(theirs).items()} == objects
    assert not torch.equal(a, latents(theirs, world))


@pytest.mark.parametrize("key", [("input", 5, 0), ("input", 5)])
def test_any_callable_keeps_its_effect(nodes, world, key):
    """Without .add, and at the key of a whole block, which ours would hide."""
    theirs = world.model.clone()
    theirs.set_model_attn2_replace(WithoutAdd(0.5), *key)
    mixed = cases.patch(nodes, world, model=theirs)[0]
    assert isinstance(patches(mixed)["input", 5, 0].base, WithoutAdd)
    assert not torch.equal(latents(mixed, world), latents(cases.patch(nodes, world)[0], world))
    assert latents(mixed.clone(), world).isfinite().all()  # the most reported crash of the field: an object without .add


def test_an_earlier_pack_keeps_what_comfyui_does_with_its_patch(nodes, world):
    """Its models are loaded with ours on top of it, and it is moved with the model."""
    class Movable(WithoutAdd):
        def models(self):
            return [world.net.control_model_wrapped]

        def to(self, device_or_dtype):
            return Movable(device_or_dtype)
    model, below = world.model.clone(), Movable(0)
    model.set_model_attn2_replace(below, "input", 4, 0)
    patched = cases.apply(nodes, world, model=model)[0]
    assert patched.model_patches_models() == [world.net.control_model_wrapped]
    patched.model_patches_to(torch.float32)
    assert patches(patched)["input", 4, 0].base.level == torch.float32
    assert patches(model)["input", 4, 0] is below and below.level == 0


def test_clone_copies_no_tensor_and_no_adapter_weight_is_held(nodes, world):
    """Later nodes (LoRA, FreeU, a second identity) clone the model; up to February 2026 by deepcopy of its options."""
    patched = cases.apply(nodes, world, mask=cases.left_half())[0]
    held = [[(tensor.data_ptr(), tensor.untyped_storage().data_ptr()) for patch in of.values() for term in patch.terms
             for tensor in (*term.identity.keys, *term.identity.values)]
            for of in map(patches, (patched, patched.clone()))]
    assert held[0] and held[0] == held[1]
    assert not {storage for _, storage in held[0]} & {
        weight.untyped_storage().data_ptr() for weight in world.instantid.module.parameters()}


@pytest.mark.newest
def test_weight_zero_of_the_patch_node_returns_the_model(nodes, world):
    model, embeds = cases.patch(nodes, world, weight=0)
    assert model is world.model
    assert embeds["cond"].shape == (1, 16, 2048)


def test_attention_overrides_reach_the_blocks_own_attention(nodes, world):
    """Sage, Flash and the like are chosen through the options."""
    calls = []

    def override(function, q, k, v, heads, **kwargs):
        calls.append(k.shape[1])
        return function(q, k, v, heads, **kwargs)
    model = cases.patch(nodes, world)[0].clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    latents(model, world)
    assert sum(keys == world.positive[0][0].shape[1] for keys in calls) == 11, "all that the model has"


def frozen(thing, seen=None):
    """A picture of an object's whole content that two moments can be compared by."""
    seen = {} if seen is None else seen
    if isinstance(thing, torch.Tensor):
        return "tensor", id(thing), thing.detach().contiguous().numpy().tobytes()
    if isinstance(thing, np.ndarray):
        return "array", id(thing), thing.tobytes()
    if isinstance(thing, dict):
        return "dict", id(thing), [(key, frozen(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return "list", id(thing), [frozen(value, seen) for value in thing]
    if id(thing) in seen or not hasattr(thing, "__dict__") or isinstance(thing, torch.nn.Module | type):
        return "object", id(thing)
    seen[id(thing)] = True
    return "object", id(thing), frozen(vars(thing), seen)


def every_node(nodes, world, **over):
    """Runs each node that takes a model, an image or a conditioning."""
    mask = cases.left_half()
    inputs = {"image": cases.faces("a", "b"), "mask": mask, **over}
    model, positive, negative = cases.apply(nodes, world, image_kps=fx.portrait("c"), **inputs)
    cases.advanced(nodes, world, **{**inputs, "model": model, "positive": positive, "negative": negative},
                   noise=0.5, combine_embeds="concat", start_at=0.1)
    _, embeds = cases.patch(nodes, world, noise=0.5, image=inputs["image"], mask=inputs["mask"],
                            model=inputs.get("model", world.model))
    drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=inputs["image"])
    cases.call(nodes, "ApplyInstantIDControlNet", face_embeds=embeds, control_net=world.net, image_kps=drawn,
               positive=positive, negative=negative, strength=0.5, start_at=0.0, end_at=0.9, mask=mask)


def test_no_input_is_changed(nodes, world):
    other = world.net.copy().set_cond_hint(fx.portrait("e").movedim(-1, 1), 0.4, (0.0, 1.0))
    over = {"image": cases.faces("a", "b"), "mask": cases.left_half(), "model": apply_foreign(world.model, 0.1),
            "positive": [[t, {**d, "control": other}] for t, d in world.positive]}
    given = [over, world.negative, world.net, vars(over["model"])]
    before = frozen(given)
    every_node(nodes, world, **over)
    assert frozen(given) == before


@pytest.mark.newest
def test_global_random_states_are_untouched(nodes, world):
    """The original seeded torch's global generator with the face."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    every_node(nodes, world)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


@pytest.mark.newest
def test_one_control_net_serves_both_passes(nodes, world):
    """ComfyUI batches the two passes only if they share the object."""
    _, positive, negative = cases.apply(nodes, world, mask=cases.left_half())
    assert positive[0][1]["control"] is negative[0][1]["control"] is not world.net
    assert positive[0][1]["control"].control_model_wrapped is world.net.control_model_wrapped
    assert not positive[0][1]["control_apply_to_uncond"]
    assert "mask" in positive[0][1] and "mask" not in negative[0][1]
    assert positive[0][1]["set_area_to_bounds"] is False


def test_a_sigma_is_read_once_for_all_blocks_and_windows(nodes, world):
    """The original read the noise level from the device at each of 60 blocks."""
    def count(model):
        with counted_operations() as operations:
            latents(model, world, steps=2)
        return operations["host reads"]
    plain = count(world.model)
    always = cases.patch(nodes, world)[0]
    window = cases.patch(nodes, world, start_at=0.1, model=cases.patch(nodes, world, end_at=0.9)[0])[0]
    assert count(always) == plain
    assert count(window) == plain + 2


@pytest.mark.newest
@pytest.mark.parametrize("node, over, count", [
    (cases.apply, {"blocks": "all 70"}, 70), (cases.advanced, {"blocks": "output only"}, 36), (cases.patch, {}, 70),
    (cases.apply, {"block_weights": "input 4: 0, middle: 1"}, 68), (cases.patch, {"block_weights": "input 4: 0"}, 68),
])
def test_a_choice_of_blocks(nodes, world, node, over, count):
    assert len(patches(node(nodes, world, options=Options(**over))[0])) == count
