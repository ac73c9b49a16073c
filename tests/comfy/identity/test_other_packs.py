"""Packs that enlarge the batch at a block, and guiders with more than two passes: who sees the face."""

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom_sampler
import comfy_extras.nodes_perpneg as perpneg
import pytest
import torch
from control_nets import prompt
from instantid_swift.CrossAttentionPatch import AttentionPatch
from instantid_swift.identity.terms import rows_in_enlarged_batch
from oracle import cases
from oracle import fixtures as fx
from reference import reference_model
from stand_ins.couple import LABELS, with_couple

SAMPLING = {"steps": 1, "size": (8, 8)}
LEFT = cases.left_half()
CPU = torch.device("cpu")


def patches(model):
    return model.model_options["transformer_options"]["patches_replace"]["attn2"]


def texts(*seeds):
    return [prompt(seed)[0][0] for seed in seeds]


def latents(model, world, **sampling):
    return fx.sample(model, world.positive, world.negative, **{**SAMPLING, **sampling})


# ---- Attention Couple


@pytest.mark.newest
@pytest.mark.parametrize("mask, sampling", [(None, {"cfg": 1.0}), (LEFT, {"batch": 2})], ids=["no mask", "mask"])
def test_attention_couple_runs_as_with_the_original(nodes, world, mask, sampling):
    """Two regions, of which nothing tells which is what: K and V were laid out for another batch."""
    patched = cases.patch(nodes, world, mask=mask, noise=0.3)[0]
    tokens = patches(patched)["input", 4, 0].terms[0].identity.tokens(CPU)
    reference = reference_model(world.model, world.instantid, tokens, 1.0, mask=mask)
    ours, theirs = (latents(with_couple(model, texts(21, 22), [LEFT, 1 - LEFT]), world, **sampling)
                    for model in (patched, reference))
    assert torch.equal(ours, theirs) and ours.isfinite().all()
    assert not torch.equal(ours, latents(with_couple(world.model, texts(21, 22), [LEFT, 1 - LEFT]), world, **sampling))


@pytest.mark.newest
@pytest.mark.parametrize("label, masks, batch", [
    (LABELS[0], [LEFT, 1 - LEFT], 2), (LABELS[1], [LEFT, 1 - LEFT], 1), (None, [LEFT, 1 - LEFT, 0 * LEFT, 0 * LEFT], 3)])
def test_regions_of_one_text_are_the_picture_without_regions(nodes, world, label, masks, batch):
    """Each part of the enlarged batch sees the face of its own pass: where the pack says which part is what, and where equal
    parts would leave a rest, at which the original fails."""
    patched = cases.patch(nodes, world, mask=LEFT, noise=0.3)[0]
    coupled = with_couple(patched, [world.positive[0][0]] * len(masks), masks, label)
    a, b = latents(coupled, world, batch=batch), latents(patched, world, batch=batch)
    assert (a - b).abs().max() <= 1e-4 * b.std()


def enlarged(count, chunks, batch, **more):
    return rows_in_enlarged_batch(count, {"cond_or_uncond": chunks, "original_shape": [batch, 4, 8, 8], **more})


@pytest.mark.newest
def test_rows_of_an_enlarged_batch():
    assert enlarged(6, [0], 2) == [0, 1, 0, 1, 0, 1]
    assert enlarged(8, [1, 0], 4) == [0, 1, 0, 1, 2, 3, 2, 3]
    assert enlarged(3, [1, 0], 2) == [0, 1, 1]
    assert enlarged(5, [0, 1], 2) == [0, 0, 0, 0, 1]
    assert enlarged(4, [1, 0], 2, cond_or_uncond_couple=[1, 0, 0, 0]) == [0, 1, 1, 1]
    assert enlarged(8, [0, 1], 4, cond_or_uncond_hook_couple=[0, 0, 0, 1]) == [0, 1, 0, 1, 0, 1, 2, 3]
    assert enlarged(6, [1, 0], 2, cond_or_uncond_couple=[1, 0, 0, 0]) == [0, 0, 0, 1, 1, 1], "left over from another block"
    with pytest.raises(ValueError, match="gives the attention 7 entries where the sampling has 4"):
        enlarged(7, [1, 0], 4)


# ---- guiders of three passes


def dual_cfg(model, positive, other, negative):
    guider = custom_sampler.Guider_DualCFG(model)
    guider.set_conds(positive, other, negative)
    guider.set_cfg(3.0, 2.0)
    return guider


def perp_neg(model, positive, other, negative):
    guider = perpneg.Guider_PerpNeg(model)
    guider.set_conds(positive, negative, other)
    guider.set_cfg(3.0, 1.0)
    return guider


def sampled(guider):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "normal", 1)
    euler = comfy.samplers.ksampler("euler")
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=7)


def who_sees_the_face(model):
    """The model with a spy at one block, and {number of a pass: whether it sees the face}, filled as it samples."""
    seen, patch = {}, patches(model)["input", 4, 0]
    person = patch.terms[0].identity

    class Spy(AttentionPatch):
        def __call__(self, q, k, v, extra_options):
            step, = self._prepared_steps(q, extra_options)
            for number, keys in zip(extra_options["cond_or_uncond"], step.keys.chunk(len(extra_options["cond_or_uncond"])),
                                    strict=True):
                row = 1 if torch.equal(keys[0], person.keys[0][1]) else 0
                assert torch.equal(keys[0], person.keys[0][row]) and seen.get(number, bool(row)) == bool(row)
                seen[number] = bool(row)
            return super().__call__(q, k, v, extra_options)

    patches(model)["input", 4, 0] = Spy(patch.base, patch.terms)
    return model, seen


@pytest.mark.parametrize("guider, positive, areas", [(dual_cfg, 2, False), (dual_cfg, 2, True), (perp_neg, 0, False)])
def test_of_three_passes_the_positive_one_sees_the_face(nodes, world, guider, positive, areas):
    """DualCFGGuider numbers them negative, middle, positive. Of an area, ComfyUI gives every pass a copy under the same id."""
    model, given, negative = cases.apply(nodes, world, noise=0.3)
    if areas:
        given = [[text, {**options, "area": (8, 4, 0, left), "strength": 1.0}] for text, options in given for left in (0, 4)]
    model, seen = who_sees_the_face(model)
    assert sampled(guider(model, given, prompt(13), negative)).isfinite().all()
    assert seen == {number: number == positive for number in range(3)}


@pytest.mark.newest
def test_one_pass_alone_is_0_as_with_the_original(nodes, world):
    """Self-attention guidance evaluates the negative conds by themselves, under the number 0: pictures depend on it."""
    model, seen = who_sees_the_face(cases.patch(nodes, world, noise=0.3)[0])

    class NegativeAlone(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options, seed=None):
            return comfy.samplers.calc_cond_batch(self.inner_model, [self.conds["negative"]], x, timestep, model_options)[0]

    guider = NegativeAlone(model)
    guider.set_conds(world.positive, world.negative)
    sampled(guider)
    assert seen == {0: True}
