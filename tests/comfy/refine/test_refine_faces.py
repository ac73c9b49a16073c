"""InstantID Refine Faces on the miniature: which faces it paints, as whom, at which cost, and that nothing else changes."""

import comfy.model_management
import nodes as comfyui
import pytest
import torch
from comfy_extras.nodes_mask import composite
from control_nets import counted as counted_net
from instantid_swift import faces, performance
from instantid_swift.faces import FaceChoice
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.options.nodes import Options
from instantid_swift.people.person import Person, person_of_photos
from instantid_swift.refine import sample
from instantid_swift.refine.assign import BY_LIKENESS, EVERYBODY, LEFT_TO_RIGHT, place_faces
from instantid_swift.refine.crops import crop_of
from instantid_swift.utils import InstantIDError
from messages import one_sentence_of_advice
from oracle import cases
from oracle import fixtures as fx
from photos import read_image
from serving.miniature import Vae
from wiring.people import apply_person, people_of

SIDE = 64  # of a crop while it is painted
GREY = torch.full((1, 320, 320, 3), 0.5)


class CountedVae(Vae):
    """Its calls are listed as (name, pictures)."""

    def __init__(self):
        self.calls = []

    def encode(self, picture):
        self.calls.append(("encode", len(picture)))
        return super().encode(picture)

    def decode(self, latent):
        self.calls.append(("decode", len(latent)))
        return super().decode(latent)


@pytest.fixture
def vae():
    return CountedVae()


@pytest.fixture(scope="module")
def person_of(world):
    """person_of(face): the Person of the group photo's n-th face from the left."""
    found = {}

    def make(number):
        if number not in found:
            photos = faces.Photos(world.analysis, fx.photo(), FaceChoice("left to right", number))
            found[number] = person_of_photos(photos)
        return found[number]
    return make


@pytest.fixture
def refine(nodes, world, vae):
    """refine(image, person or people, ...): what the node shows and returns."""
    def call(image, given=None, **over):
        given = {} if given is None else {"person" if isinstance(given, Person) else "people": given}
        sampler = dict(seed=7, steps=1, cfg=4.5, sampler_name="euler", scheduler="normal", denoise=0.5)
        with torch.inference_mode():
            made = cases.call(nodes, "InstantIDRefineFaces", **{**dict(
                image=image, model=world.model, positive=world.positive, negative=world.negative, vae=vae,
                instantid=world.instantid, insightface=world.analysis, control_net=world.net, face_size=SIDE), **sampler,
                **given, **over})
        assert made["ui"]["text"] == [made["result"][3]]
        return made["result"]
    return call


@pytest.fixture
def people(nodes, person_of):
    """people(2, 5): the INSTANTID_PEOPLE of those faces."""
    return lambda *numbers: people_of(nodes, *({"person": person_of(number)} for number in numbers))


def rows(report):
    """{(picture, face): (person, before, after, what)} of a report."""
    lines = [line.split() for line in report.splitlines()]
    return {(int(line[0]), int(line[1])): (line[2], float(line[5]), line[6], line[7]) for line in lines
            if len(line) > 7 and line[0].isdigit()}


def people_in(report, picture=0):
    """The person of each face of a picture, from left to right; - where it is not painted."""
    return "".join(line[0] if line[3] == "painted" else "-" for (number, _), line in rows(report).items() if number == picture)


def only_the_mask_has_changed(before, after, mask):
    assert mask.shape == before.shape[:3] and after.shape == before.shape and after.dtype == before.dtype
    assert torch.equal(after[mask == 0], before[mask == 0])
    return not torch.equal(after, before) and mask.min() >= 0 and mask.max() == 1


# ---- one face, and the same by hand


def by_hand(nodes, world, image, person, vae, padding=1.8, feather=0.1):
    """Crop, Apply InstantID Person, KSampler with a noise mask, paste: with the pack's nodes and ComfyUI's."""
    (face,), = place_faces(faces.Photos(world.analysis, image))
    crop = crop_of(face, [face], (image.shape[2], image.shape[1]), padding)
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


# ---- strange pictures


def enlarged(image, width, height):
    return read_image(image[0], (width, height))


@pytest.mark.newest
@pytest.mark.parametrize("image", [
    fx.portrait("c")[:, 60:260, 90:220], enlarged(fx.photo(), 205, 142), enlarged(fx.photo(), 4000, 2769),
    torch.cat([fx.photo(), torch.rand(1, 886, 1280, 1)], dim=3), fx.photo().mean(dim=3, keepdim=True),
    fx.photo().half()], ids=["cut by the edges", "faces of 16 px", "4000 px", "RGBA", "grey", "float16"])
def test_strange_pictures(refine, person_of, image):
    before = image.clone()
    painted, mask, values, report = refine(image, person_of(4), who=EVERYBODY)
    assert torch.equal(image, before) and only_the_mask_has_changed(before, painted, mask)
    assert len(values) == len(rows(report)) > 0
    if image.shape[3] == 4:
        assert torch.equal(painted[..., 3], before[..., 3])


@pytest.mark.newest
def test_keypoints_show_a_face_that_nobody_finds(refine, person_of, counted):
    """In a picture of 16 pixels, too. Two at the same place are one too many."""
    analysis, detector, _ = counted
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[5, 5], [11, 5], [8, 8], [6, 11], [10, 11.]]).numpy()
    painted, mask, values, report = refine(image, person_of(4), keypoints=Keypoints(16, 16, (KeypointFace(points),)),
                                           insightface=analysis, who=LEFT_TO_RIGHT)
    assert detector.runs == 0 and people_in(report) == "0" and len(values) == 1
    assert only_the_mask_has_changed(image, painted, mask)


# ---- Cancel, and what cannot be used


@pytest.mark.newest
def test_cancel_leaves_nothing_half_pasted(world, refine, people, monkeypatch):
    """It ends the second group; the next run paints as if nothing had been."""
    monkeypatch.setattr(sample, "OF_SIDE", SIDE)
    monkeypatch.setattr(sample, "AT_ONCE", 1)
    image, calls = fx.photo(), []

    def cancel(*_):
        calls.append(1)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing()
    wanted, *_ = refine(image, people(1, 4), steps=2, denoise=1.0)
    hook = world.model.model.diffusion_model.register_forward_pre_hook(cancel)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            refine(image, people(1, 4), steps=2, denoise=1.0)
    finally:
        hook.remove()
        comfy.model_management.interrupt_current_processing(False)
    assert len(calls) == 3 and torch.equal(image, fx.photo())
    assert torch.equal(refine(image, people(1, 4), steps=2, denoise=1.0)[0], wanted)


class SixteenChannels(Vae):
    def encode(self, picture):
        return super().encode(picture).repeat(1, 4, 1, 1)


@pytest.mark.newest
@pytest.mark.parametrize("over, text", [
    ({"person": None}, "Neither person nor people is connected"),
    ({"people": ("somebody",)}, "Both person and people are connected"),
    ({"vae": None}, "There is no VAE"), ({"vae": SixteenChannels()}, "latents of 16 channels"),
    ({"instantid": "a file"}, "Connect InstantID Swift's Load InstantID Model"),
    ({"control_net": None}, "There is no ControlNet"),
    ({"keypoints": "somewhere"}, "Keypoints were expected"),
    ({"options": Options(no_face="error"), "image": torch.cat([fx.portrait("a"), GREY])}, "at index 1 of a batch of 2")])
def test_what_cannot_be_used_is_said_before_the_sampling(refine, person_of, world, over, text):
    hook = world.model.model.diffusion_model.register_forward_pre_hook(lambda *_: pytest.fail("The UNet runs."))
    try:
        with pytest.raises(InstantIDError) as error:
            refine(**{"image": fx.portrait("a"), "person": person_of(4), "who": EVERYBODY, **over})
    finally:
        hook.remove()
    assert text in one_sentence_of_advice(error)


@pytest.mark.newest
def test_a_person_of_other_networks_is_refused(refine, person_of):
    with pytest.raises(InstantIDError, match="different networks"):
        refine(fx.portrait("a"), person_of(4)._replace(embedder="buffalo_l/other.onnx"))


@pytest.mark.newest
def test_options(refine, person_of, vae, caplog):
    image = torch.cat([fx.portrait("a"), GREY])
    for options, text in ((Options(enabled=False), "Switched off"), (Options(no_face="bypass"), "Bypassed")):
        painted, *_, report = refine(image, person_of(4), who=EVERYBODY, options=options)
        assert painted is image and report.startswith(text) and vae.calls == []
    assert "Bypassed" in caplog.text


@pytest.mark.newest
def test_it_tells_of_people_in_the_model_and_of_crops_that_shrink(nodes, world, refine, person_of, caplog):
    model, *_ = apply_person(nodes, world, person_of(4))
    refine(fx.portrait("a"), person_of(4), who=EVERYBODY, model=model)
    assert "shows a person of InstantID already" in caplog.text and "painted with 64" in caplog.text
