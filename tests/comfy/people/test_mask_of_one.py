"""A mask that limits one person, and what is said where a mask hides more than that."""

from types import SimpleNamespace

import pytest
import torch
from comfy_execution.utils import CurrentNodeContext
from instantid_swift import faces
from instantid_swift.host import server
from instantid_swift.people.person import person_of_photos
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people, apply_person, people_of

LEFT = cases.left_half()
SMALL = {"steps": 2, "size": (8, 8)}


@pytest.fixture(scope="module")
def person(world):
    return person_of_photos(faces.Photos(world.analysis, fx.portrait("a")))


def masked(nodes, world, person, mask=LEFT, **over):
    """(model, positive, negative) of Apply InstantID (Several People) with one person."""
    return apply_people(nodes, world, people_of(nodes, {"person": person, "mask": mask}), **over)


def test_a_mask_of_one_person_does_not_limit_the_prompt(nodes, world, person):
    """In Apply InstantID Advanced the picture falls apart outside of it, unless the prompt is joined with the plain one."""
    def spread(applied):
        return fx.sample(*applied, **SMALL).std()
    whole = spread(cases.advanced(nodes, world))
    model, positive, negative = cases.advanced(nodes, world, mask=LEFT)
    assert spread((model, positive, negative)) > 4 * whole
    assert spread((model, positive + world.positive, negative)) < 2 * whole
    assert spread(masked(nodes, world, person)) < 2 * whole


# ---- what is said


@pytest.fixture
def said(monkeypatch, request):
    """The texts on the node."""
    messages = []
    comfyui = SimpleNamespace(client_id="client", send_progress_text=lambda text, *others: messages.append(text))
    monkeypatch.setattr(server, "instance", lambda: comfyui)
    with CurrentNodeContext(request.node.name, "7"):
        yield messages


@pytest.mark.newest
@pytest.mark.parametrize("apply, limits_the_prompt", [
    (lambda nodes, world, person, mask: cases.advanced(nodes, world, mask=mask), True),
    (lambda nodes, world, person, mask: apply_person(nodes, world, person, mask=mask), True),
    (lambda nodes, world, person, mask: cases.patch(nodes, world, mask=mask), False), (masked, False),
], ids=["Advanced", "Person", "Patch Attention", "People"])
def test_a_mask_that_hides_more_than_the_person_is_said(nodes, world, person, said, apply, limits_the_prompt):
    """Load Image gives an empty one for every picture without transparency."""
    apply(nodes, world, person, torch.ones(1, 64, 64))
    assert said == []
    apply(nodes, world, person, LEFT)
    assert len(said) == limits_the_prompt
    assert all("limits the whole positive prompt" in text and "Apply InstantID (Several People)" in text for text in said)
    said.clear()
    apply(nodes, world, person, 0 * LEFT)
    hidden = "the person and the positive prompt have" if limits_the_prompt else "the person has"
    assert len(said) == 1 and f"The mask is empty, so {hidden} no effect." in said[0]


@pytest.mark.newest
def test_switched_off_nodes_hand_on_their_inputs(nodes, world, person, said):
    widgets = {name: of["default"] for name, (_, of) in nodes["InstantIDOptions"].INPUT_TYPES()["required"].items()}
    options, = cases.call(nodes, "InstantIDOptions", **{**widgets, "enabled": False})
    off, given = {"options": options}, (world.model, world.positive, world.negative)
    for applied in (cases.apply(nodes, world, **off), cases.advanced(nodes, world, **off),
                    apply_person(nodes, world, person, **off), masked(nodes, world, person, **off)):
        assert len(applied) == 3 and all(one is other for one, other in zip(applied, given, strict=True))
    model, embeds = cases.patch(nodes, world, **off)
    assert model is world.model and embeds is None
    assert said == ["InstantID: Switched off in InstantID Options: this node changes nothing."]
