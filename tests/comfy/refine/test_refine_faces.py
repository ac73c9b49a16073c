"""InstantID Refine Faces on the miniature: which faces it paints, as whom, at which cost, and that nothing else changes."""

import nodes as comfyui
import pytest
import torch
from comfy_extras.nodes_mask import composite
from control_nets import counted as counted_net
from instantid_swift import faces, performance
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.refine import sample
from instantid_swift.refine.assign import BY_LIKENESS, EVERYBODY, LEFT_TO_RIGHT, place_faces
from instantid_swift.refine.crops import crop_of
from oracle import cases
from oracle import fixtures as fx
from wiring.people import apply_person
from wiring.refine import SIDE, only_the_mask_has_changed, people_in, rows

GREY = torch.full((1, 320, 320, 3), 0.5)


# ---- one face, and the same by hand


def by_hand(nodes, world, image, person, vae, padding=1.8, feather=0.1):
    """Crop, Apply InstantID (Person), KSampler with a noise mask, paste: with the pack's nodes and ComfyUI's."""
    (face,), = place_faces(faces.Photos(world.analysis, image))
    crop = crop_of(face, (image.shape[2], image.shape[1]), padding)
    points = (face.keypoints.points - [crop.left, crop.top]) * (SIDE / crop.side)
    drawn, = cases.call(nodes, "InstantIDDrawKeypoints", keypoints=Keypoints(SIDE, SIDE, (KeypointFace(points),)))
    model, positive, negative = apply_person(nodes, world, person, image_kps=drawn)
    square = image[:, crop.top:crop.top + crop.side, crop.left:crop.left + crop.side]
    square, = comfyui.ImageScale().upscale(square, "lanczos", SIDE, SIDE, "disabled")
    latent, = comfyui.VAEEncode().encode(vae, square)
    latent, = comfyui.SetLatentNoiseMask().set_mask(latent, (crop.depth(SIDE) > 0).float())
    latent, = comfyui.KSampler().sample(model, 7, 2, 4.5, "euler", "normal", positive, negative, latent, denoise=0.5)
    square, = comfyui.ImageScale().upscale(comfyui.VAEDecode().decode(vae, latent)[0], "lanczos", crop.side, crop.side,
                                           "disabled")
    return composite(image.clone().movedim(-1, 1), square.movedim(-1, 1), crop.left, crop.top, crop.mask(feather)[None],
                     1).movedim(1, -1)


def test_one_face_has_the_bits_of_the_same_done_by_hand(nodes, world, refine, person_of, vae):
    image = fx.portrait("a")
    painted, mask, values, report = refine(image, person_of(4), steps=2, who=EVERYBODY)
    with torch.inference_mode():
        assert torch.equal(painted, by_hand(nodes, world, image, person_of(4), vae))
    assert only_the_mask_has_changed(image, painted, mask) and mask.mean() < 0.4
    (person, _, after, _), = rows(report).values()
    assert person == "0" and values == [pytest.approx(float(after), abs=1e-3)]


# ---- who is who


@pytest.mark.newest
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("order, padding", [((1, 4), 1.8), ((4, 1), 1.8), ((2, 1), 4.0)])
def test_of_a_group_two_become_their_people_and_four_stay(world, refine, people, order, padding, mirrored):
    """Crops that overlap, and hold other faces, too."""
    image = fx.photo().flip(2) if mirrored else fx.photo()
    painted, mask, values, report = refine(image, people(*order), padding=padding)
    assert only_the_mask_has_changed(image, painted, mask) and len(values) == 2
    wanted = ["-"] * 6
    for index, number in enumerate(order):
        wanted[5 - number if mirrored else number] = str(index)
    assert people_in(report) == "".join(wanted)
    placed, = place_faces(faces.Photos(world.analysis, image))
    for face, person in zip(placed, wanted, strict=True):
        left, top, right, bottom = map(round, face.box)
        inside = mask[0, top:bottom, left:right]
        assert not inside.any() if person == "-" else inside.mean() > 0.9
    assert all(before > 0.9 for person, before, *_ in rows(report).values() if person != "nobody")


@pytest.mark.newest
def test_by_place_and_the_first_for_everybody(refine, people):
    given = people(4, 1)
    assert people_in(refine(fx.photo(), given, who=LEFT_TO_RIGHT)[3]) == "01----"
    painted, mask, values, report = refine(fx.photo(), given, who=EVERYBODY)
    assert people_in(report) == "000000" and len(values) == 6 and "Without a face: person 1." in report
    assert only_the_mask_has_changed(fx.photo(), painted, mask)


@pytest.mark.newest
def test_more_people_than_faces(refine, people):
    *_, report = refine(fx.portrait("a"), people(5, 2, 4), who=LEFT_TO_RIGHT)
    assert people_in(report) == "0" and "Without a face: person 1, 2." in report
    assert people_in(refine(fx.portrait("a"), people(5, 2, 4))[3]) == "1"


# ---- batches


@pytest.mark.newest
def test_a_batch_with_and_without_faces_in_any_order(refine, people):
    pictures = torch.cat([fx.portrait("a"), GREY, fx.portrait("e")])
    painted, mask, values, report = refine(pictures, people(2, 5))
    assert [people_in(report, number) for number in range(3)] == ["0", "", "1"]
    assert torch.equal(painted[1], pictures[1]) and only_the_mask_has_changed(pictures, painted, mask)
    again, *_ = refine(pictures, people(2, 5))
    assert torch.equal(again, painted)
    turned, turned_mask, turned_values, _ = refine(pictures[[2, 0, 1]], people(5, 2))
    assert torch.equal(turned, painted[[2, 0, 1]]) and torch.equal(turned_mask, mask[[2, 0, 1]])
    assert turned_values == values[::-1]


@pytest.mark.newest
def test_more_faces_than_fit_are_painted_in_groups(refine, people, vae, monkeypatch):
    at_once, *_ = refine(fx.photo(), people(4), who=EVERYBODY)
    assert vae.calls == [("encode", 6), ("decode", 6)]
    monkeypatch.setattr(sample, "OF_SIDE", SIDE)
    monkeypatch.setattr(sample, "AT_ONCE", 4)
    grouped, *_ = refine(fx.photo(), people(4), who=EVERYBODY)
    assert vae.calls[2:] == [("encode", 4), ("decode", 4), ("encode", 2), ("decode", 2)]
    torch.testing.assert_close(grouped, at_once, atol=1 / 255 + 1e-6, rtol=0)


# ---- what it costs


@pytest.mark.newest
def test_six_faces_of_six_people_cost_one_run_of_everything(world, refine, people, vae, counted, steps=3):
    analysis, detector, embedder = counted
    given = people(*range(6))
    passes = []
    hook = world.model.model.diffusion_model.register_forward_pre_hook(lambda unet, given: passes.append(len(given[0])))
    try:
        with performance.run() as run, counted_net(world.net) as calls:
            *_, report = refine(fx.photo(), given, steps=steps, denoise=1.0, insightface=analysis)
    finally:
        hook.remove()
    assert people_in(report) == "012345"
    assert detector.runs == 1 and embedder.runs == 12, "each face before and after"
    assert vae.calls == [("encode", 6), ("decode", 6)]
    assert passes == [12] * steps, "both passes of all faces"
    assert calls() == (1, 1, steps)
    assert run.caches["identities"] == [0, 6], "K and V of each person, once"


@pytest.mark.newest
def test_like_enough_means_no_work(world, refine, people, vae):
    hook = world.model.model.diffusion_model.register_forward_pre_hook(lambda *_: pytest.fail("The UNet runs."))
    try:
        for who in (BY_LIKENESS, LEFT_TO_RIGHT, EVERYBODY):
            image = fx.photo()
            painted, mask, values, report = refine(image, people(4, 1), leave_above=0.0, who=who)
            assert painted is image and not mask.any() and values == [] and "like enough" in report
        assert people_in(report) == "------" and rows(report)[0, 4][:2] == ("0", pytest.approx(1, abs=1e-3))
    finally:
        hook.remove()
    assert vae.calls == []
    half, *_, report = refine(image, people(4), leave_above=0.5, who=EVERYBODY)
    assert people_in(report) == "0000-0" and vae.calls == [("encode", 5), ("decode", 5)]


@pytest.mark.newest
@pytest.mark.parametrize("image, text", [(GREY, "The image (320x320 pixels) shows no face"),
                                         (torch.rand(1, 16, 16, 3), "The image (16x16 pixels) shows no face"),
                                         (fx.portrait("a"), "No face is like a person: the largest likeness is")])
def test_without_a_face_or_a_person_the_given_picture_goes_on(refine, person_of, vae, image, text, caplog):
    painted, mask, values, report = refine(image, person_of(4))
    assert painted is image and not mask.any() and mask.shape == image.shape[:3] and values == [] and vae.calls == []
    assert report.startswith(text) and "The pictures go on unchanged." in report and text in caplog.text
