"""One photo or person for each latent of a batch: in attention and in IdentityNet alike, the last one for the rest."""

import pytest
import torch
from instantid_swift import faces
from instantid_swift.identity.bank import EACH_LATENT
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.options.nodes import Options
from instantid_swift.people.person import person_of_photos
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people, apply_person, people_of

STEPS = {"steps": 1, "size": (8, 8)}
EACH = Options(each_latent=True)


def close(ours, expected):
    """Another size of the batch gives other last bits."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.std().item())


def batch_of(applied, count):
    return fx.sample(*applied, batch=count, **STEPS)


def test_the_nth_photo_is_the_nth_latents_and_the_last_one_the_rests(nodes, world):
    """The pose is the first photo's, so it is given."""
    drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("a"))
    both = batch_of(cases.advanced(nodes, world, image=cases.faces("a", "b"), image_kps=drawn, options=EACH), 3)
    for name, latents in (("a", (0,)), ("b", (1, 2))):
        alone = batch_of(cases.advanced(nodes, world, image=fx.portrait(name), image_kps=drawn), 3)
        for number in latents:
            close(both[number], alone[number])
    assert (both[0] - batch_of(cases.advanced(nodes, world, image=fx.portrait("b"), image_kps=drawn), 3)[0]).abs().max() > 1e-3


@pytest.mark.newest
def test_one_photo_for_all_gives_the_bits_of_the_ordinary_node(nodes, world):
    ordinary, each = (batch_of(cases.advanced(nodes, world, options=options), 2) for options in (Options(), EACH))
    assert torch.equal(ordinary, each)


@pytest.mark.newest
def test_photos_of_a_person_and_people_of_a_list(nodes, world):
    people = [person_of_photos(faces.Photos(world.analysis, fx.portrait(name))) for name in "ab"]
    both = person_of_photos(faces.Photos(world.analysis, cases.faces("a", "b")))
    listed = people_of(nodes, *({"person": person} for person in people))
    of_person = batch_of(apply_person(nodes, world, both, options=EACH), 2)
    assert torch.equal(of_person, batch_of(apply_people(nodes, world, listed, options=EACH), 2))
    assert torch.equal(of_person, batch_of(cases.advanced(nodes, world, image=cases.faces("a", "b"), options=EACH), 2))
    other, = cases.call(nodes, "InstantIDPeople", person=people[0], people=listed, ip_weight=0.3)
    with pytest.raises(InstantIDError, match="With each_latent each picture of the batch shows one person"):
        apply_people(nodes, world, other, options=EACH)


@pytest.mark.newest
def test_keypoints_of_other_people_than_the_first_are_refused(nodes, world):
    person = person_of_photos(faces.Photos(world.analysis, fx.portrait("a")))
    here, there = (Keypoints(320, 320, (KeypointFace(person.points[0].numpy() + shift),)) for shift in (0, 60))

    def applied(first, second, **over):
        people = people_of(nodes, {"person": person, "keypoints": first}, {"person": person, "keypoints": second})
        return apply_people(nodes, world, people, options=EACH, **over)
    for first, second in ((here, there), (None, there)):
        with pytest.raises(InstantIDError, match="another person has keypoints of its own"):
            applied(first, second)
        applied(first, second, image_kps=torch.zeros(2, 320, 320, 3))
    applied(here, here), applied(here, None)


@pytest.mark.newest
def test_the_split_nodes(nodes, world):
    model, embeds = cases.patch(nodes, world, image=cases.faces("a", "b"), options=EACH)
    assert embeds["cond"].shape == (2, 16, 2048)
    drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("a"))
    positive, negative = cases.call(
        nodes, "ApplyInstantIDControlNet", face_embeds=embeds, control_net=world.net, image_kps=drawn, positive=world.positive,
        negative=world.negative, strength=0.9, start_at=0.0, end_at=1.0)
    assert positive[0][1][EACH_LATENT] and negative[0][1][EACH_LATENT]
    assert batch_of((model, positive, negative), 3).isfinite().all()
