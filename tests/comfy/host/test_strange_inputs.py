"""Strange inputs through the nodes: converted with equal results, or refused before the sampling."""

import inspect

import pytest
import torch
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from reference import reference_apply


def control_net(nodes, world, **over):
    arguments = dict(face_embeds=dict.fromkeys(("cond", "uncond"), torch.zeros(1, 16, 2048)), control_net=world.net,
                     image_kps=fx.portrait("a"), positive=world.positive, negative=world.negative, strength=1.0,
                     start_at=0.0, end_at=1.0)
    return cases.call(nodes, "ApplyInstantIDControlNet", **{**arguments, **over})


def latents(applied, **sampling):
    return fx.sample(*applied, steps=1, size=(8, 8), **sampling)


def grey(channels):
    return torch.rand(1, 64, 64, 1, generator=torch.Generator().manual_seed(0)).expand(1, 64, 64, channels)


def test_hints_of_one_or_four_channels(nodes, world):
    """They failed in IdentityNet's first convolution, in the middle of the sampling."""
    hints = [control_net(nodes, world, image_kps=grey(channels))[0][0][1]["control"].cond_hint_original
             for channels in (3, 1, 4)]
    assert torch.equal(hints[0], hints[1]) and torch.equal(hints[0], hints[2])


@pytest.mark.newest
def test_hints_photos_and_masks_that_cannot_be_used_are_refused(nodes, world):
    for shape in ((0, 64, 64, 3), (64, 64, 3), (1, 64, 64, 2)):
        with pytest.raises(InstantIDError):
            control_net(nodes, world, image_kps=torch.zeros(shape))
        with pytest.raises(InstantIDError, match="image"):
            cases.apply(nodes, world, image=torch.zeros(shape))
    for mask in (torch.zeros(0, 64, 64), torch.full((1, 64, 64), float("nan")), torch.zeros(1, 64, 64, 3)):
        for node in (lambda mask: cases.apply(nodes, world, mask=mask), lambda mask: control_net(nodes, world, mask=mask)):
            with pytest.raises(InstantIDError):
                node(mask)
    with pytest.raises(InstantIDError, match="a batch of pictures, this one is a Python list of 2.*Batch Images"):
        cases.apply(nodes, world, image=[fx.portrait("a"), fx.portrait("b")])


@pytest.mark.parametrize("convert", [torch.Tensor.bool, lambda mask: mask[:, None], lambda mask: mask[0]],
                         ids=["bool", "four dimensions", "two dimensions"])
def test_masks_of_other_forms_give_the_same_picture(nodes, world, convert):
    """Attention took them, the conditioning failed in the sampling."""
    mask = cases.left_half()
    pictures = [latents(cases.apply(nodes, world, mask=value)) for value in (mask, convert(mask))]
    assert torch.equal(*pictures)


def test_fewer_and_more_masks_than_latents(nodes, world):
    """Two masks for three latents: the last one serves the third, in attention and in the conditioning. Others are dropped."""
    two = torch.cat([cases.left_half(), 1 - cases.left_half()])
    three = torch.cat([two, two[1:]])
    pictures = [latents(cases.apply(nodes, world, mask=mask), batch=3) for mask in (three, two, torch.cat([three, two]))]
    assert torch.equal(*pictures[:2]) and torch.equal(*pictures[1:])


@pytest.mark.newest
def test_weights_that_other_packs_leave_out(nodes, world):
    """ip_weight and cn_strength of None fall back to weight."""
    _, positive, _ = cases.advanced(nodes, world, ip_weight=None, cn_strength=None, weight=0.25)
    assert positive[0][1]["control"].strength == 0.25


def test_every_check_of_a_node_takes_widgets_that_are_links(nodes):
    """ComfyUI gives None for a link. IS_CHANGED of two loaders raised, so that a workflow ran again at every queueing."""
    for name, node in nodes.items():
        inputs = [key for group in ("required", "optional") for key in node.INPUT_TYPES().get(group, ())]
        if hasattr(node, "IS_CHANGED"):
            assert node.IS_CHANGED(**dict.fromkeys(inputs)) is not None, name
        if hasattr(node, "VALIDATE_INPUTS"):
            asked = inspect.signature(node.VALIDATE_INPUTS).parameters
            assert node.VALIDATE_INPUTS(**dict.fromkeys(asked)) is True, name


@pytest.mark.newest
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_photos_and_masks_in_their_own_precision_equal_the_original(nodes, world, dtype):
    """ComfyUI's --fp16-intermediates: converted to float32, half of the grey levels came out one lower."""
    image, mask = fx.portrait("a").to(dtype), torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    given = {"image": image, "mask": mask, "ip_weight": 0.8, "cn_strength": 0.8, "noise": 0.0}
    assert torch.equal(latents(cases.advanced(nodes, world, **given)), latents(reference_apply(world, **given)))


@pytest.mark.newest
def test_values_up_to_255_are_named(nodes, world):
    with pytest.raises(Exception, match="The values of the image go up to 2.*: divide them by 255"):
        cases.apply(nodes, world, image=fx.portrait("a") * 255)
