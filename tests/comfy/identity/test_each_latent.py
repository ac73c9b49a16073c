"""One photo or person for each latent of a batch: in attention and in IdentityNet alike, the last one for the rest."""

import pytest
import torch
from instantid_swift import faces
from instantid_swift.identity import EachLatent
from instantid_swift.identity.bank import EACH_LATENT, unconditional_embedding, with_tokens_for_each_latent
from instantid_swift.identity.terms import UNetCall
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.options.nodes import Options
from instantid_swift.people.person import person_of_photos
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_people, people_of

STEPS = {"steps": 1, "size": (8, 8)}
EACH = Options(each_latent=True)


def close(ours, expected):
    """Another size of the batch gives other last bits."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.std().item())


def batch_of(applied, count):
    return fx.sample(*applied, batch=count, **STEPS)


def identity(world, seed):
    embedding = 20 * torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(seed))
    return world.instantid.identity(embedding, unconditional_embedding(embedding, 0.0), torch.float32)


def call(chunks=(0, 1), sub_idxs=None, batch=6):
    return UNetCall(None, torch.device("cpu"), torch.float32, batch, chunks, sub_idxs)


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
    given = dict(instantid=world.instantid, control_net=world.net, model=world.model, positive=world.positive,
                 negative=world.negative, noise=0.0, options=EACH)
    listed = ()
    for person in people:
        listed, = cases.call(nodes, "InstantIDPeople", person=person, people=listed)
    of_person, of_list = (batch_of(cases.call(nodes, name, **given, **what), 2) for name, what in (
        ("ApplyInstantIDPerson", {"person": both}), ("ApplyInstantIDPeople", {"people": listed})))
    assert torch.equal(of_person, of_list)
    assert torch.equal(of_person, batch_of(cases.advanced(nodes, world, image=cases.faces("a", "b"), options=EACH), 2))
    other, = cases.call(nodes, "InstantIDPeople", person=people[0], people=listed, ip_weight=0.3)
    with pytest.raises(InstantIDError, match="With each_latent each picture of the batch shows one person"):
        cases.call(nodes, "ApplyInstantIDPeople", **given, people=other)


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


# ---- in attention


@pytest.mark.newest
def test_windows_of_animatediff_have_their_frames_keys(world):
    a, b, c = (identity(world, seed) for seed in (1, 2, 3))
    keys_and_values = EachLatent([a, b, c]).keys_and_values(call(chunks=(1, 0), sub_idxs=[1, 2, 7]))
    assert torch.equal(keys_and_values[5][0], torch.stack([one.keys[5][row] for row in (0, 1) for one in (b, c, c)]))


# ---- in IdentityNet


@pytest.mark.newest
def test_tokens_are_spread_over_the_latents():
    tokens = torch.arange(2.0)[:, None, None].expand(2, 16, 4)
    marked, plain = {"cross_attn_controlnet": tokens, EACH_LATENT: True}, {"cross_attn_controlnet": tokens}
    conds = {"positive": [dict(marked), dict(plain)], "negative": [{}]}
    spread = with_tokens_for_each_latent(conds, 4)
    assert spread["positive"][0]["cross_attn_controlnet"][:, 0, 0].tolist() == [0, 1, 1, 1]
    assert spread["positive"][1] == plain and spread["negative"] == [{}]
    assert conds["positive"][0]["cross_attn_controlnet"] is tokens, "what is given is the sampler's"
    fewer = with_tokens_for_each_latent(conds, 1)["positive"][0]["cross_attn_controlnet"]
    assert fewer[:, 0, 0].tolist() == [0], "a context window's tokens are found only where there is one row for each latent"
