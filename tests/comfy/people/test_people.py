"""Several people in one picture, from the nodes to the latents."""

import copy

import pytest
import torch
from control_nets import Calls, counted
from control_nets import apply as control_apply
from instantid_swift import faces
from instantid_swift.identity.blocks import SDXL_BLOCKS
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.people.person import person_of_photos
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people as apply
from wiring.people import people_of

STEPS = {"steps": 2, "size": (8, 8)}
LEFT, RIGHT = cases.left_half(), 1 - cases.left_half()


@pytest.fixture(scope="module")
def persons(world):
    """{name of a portrait: PERSON}"""
    return {name: person_of_photos(faces.Photos(world.analysis, fx.portrait(name))) for name in "abc"}


def terms_at(model, block):
    """What is added at a block to the attention of cells [1, 12 * 12, width], whose own attention adds nothing."""
    patch = model.model_options["transformer_options"]["patches_replace"]["attn2"][tuple(block)]
    width, heads = 64, 4
    generator = torch.Generator().manual_seed(9)
    q = torch.randn(1, 144, width, generator=generator)
    nothing = torch.zeros(1, 77, width)
    options = {"n_heads": heads, "original_shape": [1, 4, 24, 24], "cond_or_uncond": [0], "block": tuple(block[:2]),
               "block_index": block.index}
    with torch.inference_mode():
        return patch(q, nothing, nothing, options).unflatten(1, (12, 12))


def test_inside_the_mask_of_a_person_nothing_depends_on_the_other(nodes, world, persons):
    """At the terms; what the UNet's own layers carry from place to place is theirs."""
    def at_first_block(other):
        people = people_of(nodes, {"person": persons["a"], "mask": LEFT}, {"person": persons[other], "mask": RIGHT})
        return terms_at(apply(nodes, world, people)[0], SDXL_BLOCKS[0])
    with_b, with_c = at_first_block("b"), at_first_block("c")
    assert torch.equal(with_b[:, :, :6], with_c[:, :, :6]) and with_b[:, :, :6].any()
    assert not torch.equal(with_b[:, :, 6:], with_c[:, :, 6:])
    alone = terms_at(cases.advanced(nodes, world, mask=LEFT)[0], SDXL_BLOCKS[0])
    assert torch.equal(with_b[:, :, :6], alone[:, :, :6])


def test_two_people_take_one_identity_net(nodes, world, persons):
    people = people_of(nodes, {"person": persons["a"], "mask": LEFT}, {"person": persons["b"], "mask": RIGHT})
    model, positive, negative = apply(nodes, world, people)
    assert len(positive) == len(negative) == 1 and positive[0][1]["control"] is negative[0][1]["control"]
    assert positive[0][1]["control"].previous_controlnet is None and "mask" not in positive[0][1]
    with counted(world.net) as calls:
        latents = fx.sample(model, positive, negative, **STEPS)
        assert calls() == Calls(1, 2, 2) and latents.isfinite().all()
    other = people_of(nodes, {"person": persons["a"], "mask": LEFT}, {"person": persons["c"], "mask": RIGHT})
    assert not torch.equal(fx.sample(*apply(nodes, world, other), **STEPS), latents)


def test_the_order_of_the_list_does_not_matter_with_masks(nodes, world, persons):
    one = {"person": persons["a"], "mask": LEFT, "cn_strength": 0.4, "keypoints": keypoints(20)}
    two = {"person": persons["b"], "mask": RIGHT, "end_at": 0.6, "keypoints": keypoints(400)}
    there, back = (fx.sample(*apply(nodes, world, people_of(nodes, *people)), **STEPS) for people in ((one, two), (two, one)))
    torch.testing.assert_close(there, back)


def keypoints(x):
    points = torch.tensor([[60.0, 80.0], [100.0, 79.0], [82.0, 100.0], [66.0, 121.0], [97.0, 120.0]])
    return Keypoints(640, 480, (KeypointFace(points.numpy() + [x, 0.0]),))


@pytest.mark.newest
def test_masks_made_of_the_places_are_as_good_as_given_ones(nodes, world, persons):
    people = [{"person": persons["a"], "keypoints": keypoints(400)}, {"person": persons["b"], "keypoints": keypoints(20)}]
    given = torch.zeros(1, 480, 640)
    given[:, :, 291:] = 1
    masked = [{**people[0], "mask": given}, {**people[1], "mask": 1 - given}]
    made, wanted = (fx.sample(*apply(nodes, world, people_of(nodes, *each)), **STEPS) for each in (people, masked))
    assert torch.equal(made, wanted)


@pytest.mark.newest
def test_nobody_in_identity_net_at_strength_0(nodes, world, persons):
    people = people_of(nodes, *({"person": persons[name], "cn_strength": 0.0} for name in "ab"))
    _, positive, negative = apply(nodes, world, people)
    assert not any("control" in options for _, options in positive + negative)


@pytest.mark.newest
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(nodes, world, loaded, persons, dtype):
    model, net = loaded(dtype)
    people = people_of(nodes, *({"person": persons[name], "cn_strength": strength, "end_at": strength}
                                for name, strength in (("a", 0.4), ("b", 0.9), ("c", 1.0))))
    applied = apply(nodes, world, people, model=model, control_net=net)
    latents = fx.sample(*applied, steps=1, size=(8, 8))
    assert latents.isfinite().all()


@pytest.mark.newest
def test_what_is_given_is_not_changed(nodes, world, persons):
    first = people_of(nodes, {"person": persons["a"]})
    before = copy.copy(first)
    second = people_of(nodes, {"person": persons["a"]}, {"person": persons["b"]})
    assert first == before and len(second) == 2
    options = world.model.model_options["transformer_options"]
    apply(nodes, world, second)
    assert "patches_replace" not in options and "control" not in world.positive[0][1]


@pytest.mark.newest
def test_errors_come_before_the_sampling(nodes, world, persons):
    with pytest.raises(InstantIDError, match="There is no ControlNet"):
        apply(nodes, world, people_of(nodes, {"person": persons["a"]}, {"person": persons["b"]}), control_net=None)
    with pytest.raises(InstantIDError, match="The keypoints hold 0 faces"):
        cases.call(nodes, "InstantIDPeople", person=persons["a"], keypoints=Keypoints(640, 480, ()))


@pytest.mark.newest
def test_people_of_other_networks_are_refused(nodes, world, persons):
    other = persons["b"]._replace(embedder="models/w600k_r50.onnx")
    with pytest.raises(InstantIDError, match="different networks"):
        apply(nodes, world, people_of(nodes, {"person": persons["a"]}, {"person": other}))


@pytest.mark.newest
def test_a_control_net_behind_reads_nothing_but_the_people(nodes, world, persons):
    """Masks that differ among the latents change nothing where they are alike."""
    behind = control_apply(world.net, world.positive, world.negative)

    def latents(left, right):
        people = people_of(nodes, {"person": persons["a"], "mask": left}, {"person": persons["b"], "mask": right})
        applied = apply(nodes, world, people, positive=behind[0], negative=behind[1])
        return fx.sample(*applied, batch=2, **STEPS)
    assert torch.equal(latents(torch.cat([LEFT, LEFT]), torch.cat([RIGHT, RIGHT])), latents(LEFT, RIGHT))


@pytest.mark.newest
def test_masks_of_each_latent_without_the_model_are_refused(nodes, world, persons):
    people = people_of(nodes, {"person": persons["a"], "mask": torch.cat([LEFT, RIGHT])}, {"person": persons["b"]})
    with pytest.raises(ValueError, match=r"Connect the model of Apply InstantID \(Several People\) to the sampler"):
        fx.sample(world.model, *apply(nodes, world, people)[1:], batch=2, **STEPS)


@pytest.mark.newest
def test_masks_of_each_latent(nodes, world, persons):
    """The n-th mask is the n-th latent's, the last one the rest's, in attention and in IdentityNet."""
    def latents(left, right):
        people = people_of(nodes, {"person": persons["a"], "mask": left, "keypoints": keypoints(20)},
                           {"person": persons["b"], "mask": right, "keypoints": keypoints(400)})
        return fx.sample(*apply(nodes, world, people), batch=3, **STEPS)
    each, there, back = latents(torch.cat([LEFT, RIGHT]), torch.cat([RIGHT, LEFT])), latents(LEFT, RIGHT), latents(RIGHT, LEFT)
    for number, expected in enumerate((there, back, back)):
        torch.testing.assert_close(each[number], expected[number], rtol=0, atol=1e-4 * expected.std().item())
    assert (there[1] - back[1]).abs().max() > 1e-2
