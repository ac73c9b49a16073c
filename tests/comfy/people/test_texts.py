"""Each person with a text of their own: ComfyUI's masked prompts, joined, under Apply InstantID (Several People)."""

import pytest
import torch
from control_nets import counted
from instantid_swift import faces
from instantid_swift.people.person import person_of_photos
from nodes import ConditioningCombine, ConditioningSetMask
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people, people_of

pytestmark = pytest.mark.newest

SIZE = (8, 8)
LEFT, RIGHT = cases.left_half(), 1 - cases.left_half()


@pytest.fixture(scope="module")
def people(nodes, world):
    """Two people, one in each half."""
    persons = [person_of_photos(faces.Photos(world.analysis, fx.portrait(name))) for name in "ab"]
    return people_of(nodes, *({"person": person, "mask": mask} for person, mask in zip(persons, (LEFT, RIGHT), strict=True)))


def texts(left, right, area="default"):
    """CONDITIONING of two prompts, one for each half, as ComfyUI's nodes make it."""
    masked = [ConditioningSetMask().append(text, mask, area, 1.0)[0] for text, mask in ((left, LEFT), (right, RIGHT))]
    return ConditioningCombine().combine(*masked)[0]


def difference(one, other):
    return float((one - other).abs().max())


def test_each_text_gets_the_tokens_and_the_one_identity_net(nodes, world, people):
    both = texts(fx.conditioning(11), fx.conditioning(12))
    model, positive, negative = apply_people(nodes, world, people, positive=both, negative=fx.conditioning(13))
    _, one_text, _ = apply_people(nodes, world, people)
    control, = {id(options["control"]) for _, options in positive + negative}
    assert len(positive) == 2 and control
    for (text, options), (given, before) in zip(positive, both, strict=True):
        assert torch.equal(text, given) and torch.equal(options["mask"], before["mask"])
        assert torch.equal(options["cross_attn_controlnet"], one_text[0][1]["cross_attn_controlnet"])
    with counted(world.net) as calls:
        assert fx.sample(model, positive, negative, steps=2, size=SIZE).isfinite().all()
        assert calls().evaluations == 2  # both texts and the negative at once, in each step


def test_equal_texts_in_both_halves_are_one_text(nodes, world, people):
    """As closely as ComfyUI's own masks are, without any people."""
    same = texts(world.positive, world.positive)
    split, whole = (fx.sample(*apply_people(nodes, world, people, positive=each), steps=3, size=SIZE)
                    for each in (same, world.positive))
    plain_split, plain_whole = (fx.sample(world.model, each, world.negative, steps=3, size=SIZE)
                                for each in (same, world.positive))
    rounding = 1e-5 * float(whole.std())
    assert difference(plain_split, plain_whole) < rounding
    assert difference(split, whole) < rounding


def test_a_text_acts_on_its_own_person(nodes, world, people):
    """In one step; after that what is on one side reaches the other through the UNet."""
    first, second = (fx.sample(*apply_people(nodes, world, people, positive=texts(fx.conditioning(11), fx.conditioning(right))),
                               steps=1, size=SIZE) for right in (12, 13))
    torch.testing.assert_close(first[..., :4], second[..., :4])
    assert difference(first[..., 4:], second[..., 4:]) > 0.01 * float(first.std())


def test_a_text_in_an_area_is_said(nodes, world, people, caplog):
    """There ComfyUI samples a part of the picture alone, for which the drawing and the masks are too large."""
    apply_people(nodes, world, people, positive=texts(world.positive, world.positive))
    assert caplog.messages == []
    apply_people(nodes, world, people, positive=texts(world.positive, world.positive, "mask bounds"))
    assert [message for message in caplog.messages if "set_cond_area" in message]
