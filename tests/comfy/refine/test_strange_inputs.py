"""InstantID Refine Faces with strange pictures, Cancel, and what cannot be used."""

import comfy.model_management
import numpy as np
import pytest
import torch
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.options.nodes import Options
from instantid_swift.refine import sample
from instantid_swift.refine.assign import EVERYBODY, LEFT_TO_RIGHT
from instantid_swift.utils import InstantIDError
from messages import one_sentence_of_advice
from oracle import fixtures as fx
from photos import close_up, read_image
from serving.miniature import Vae
from wiring.people import apply_person
from wiring.refine import SIDE, only_the_mask_has_changed, people_in, rows

pytestmark = pytest.mark.newest
GREY = torch.full((1, 320, 320, 3), 0.5)


def enlarged(image, width, height):
    return read_image(image[0], (width, height))


@pytest.mark.parametrize("image", [
    fx.portrait("c")[:, 60:260, 90:220], enlarged(fx.photo(), 205, 142), enlarged(fx.photo(), 4000, 2769),
    torch.cat([fx.photo(), torch.rand(1, 886, 1280, 1)], dim=3), fx.photo().mean(dim=3, keepdim=True),
    fx.photo().half(), close_up()], ids=[
        "cut by the edges", "faces of 16 px", "4000 px", "RGBA", "grey", "float16", "as large as the picture"])
def test_strange_pictures(refine, person_of, image):
    before = image.clone()
    painted, mask, values, report = refine(image, person_of(4), who=EVERYBODY)
    assert torch.equal(image, before) and only_the_mask_has_changed(before, painted, mask)
    assert len(values) == len(rows(report)) > 0
    if image.shape[3] == 4:
        assert torch.equal(painted[..., 3], before[..., 3])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_holes_of_nan_in_a_face_are_painted_over(refine, person_of):
    image = fx.portrait("a")
    image[0, 100:140, 100:140] = image[0, 0, 0] = float("nan")
    painted, *_ = refine(image, person_of(2))
    assert painted[0, 0, 0].isnan().all() and painted.isnan().sum() == 3


def test_keypoints_show_a_face_that_nobody_finds(refine, person_of, counted):
    """In a picture of 16 pixels, too. Of two at the same place, none is painted."""
    analysis, detector, _ = counted
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[5, 5], [11, 5], [8, 8], [6, 11], [10, 11.]]).numpy()
    given = {"insightface": analysis, "who": EVERYBODY}
    painted, mask, values, report = refine(image, person_of(4), keypoints=Keypoints(16, 16, (KeypointFace(points),)), **given)
    assert detector.runs == 0 and people_in(report) == "0" and len(values) == 1
    assert only_the_mask_has_changed(image, painted, mask)
    painted, *_, report = refine(image, person_of(4), keypoints=Keypoints(16, 16, (KeypointFace(points),) * 2), **given)
    assert painted is image and people_in(report) == "--" and "another face hides it" in report


# ---- Cancel, and what cannot be used


def test_overlapping_faces_are_painted_beside_each_other(refine, people):
    """Each where it is the nearer one: the left face is what it is, whoever the right one becomes."""
    image, points = fx.portrait("a"), np.array([[100, 120], [140, 120], [120, 140], [105, 160], [135, 160.]])
    given = {"keypoints": Keypoints(320, 320, (KeypointFace(points), KeypointFace(points + [60, 10]))), "who": LEFT_TO_RIGHT}
    painted, mask, _, report = refine(image, people(2, 5), **given)
    assert people_in(report) == "01" and only_the_mask_has_changed(image, painted, mask)
    other, same_mask, *_ = refine(image, people(2, 4), **given)
    assert torch.equal(mask, same_mask) and not torch.equal(other, painted)
    assert torch.equal(other[:, 110:165, 90:145], painted[:, 110:165, 90:145])


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


def test_a_person_of_other_networks_is_refused(refine, person_of):
    with pytest.raises(InstantIDError, match="different networks"):
        refine(fx.portrait("a"), person_of(4)._replace(embedder="buffalo_l/other.onnx"))


def test_options(refine, person_of, vae, caplog):
    image = torch.cat([fx.portrait("a"), GREY])
    for options, text in ((Options(enabled=False), "Switched off"), (Options(no_face="bypass"), "Bypassed")):
        painted, *_, report = refine(image, person_of(4), who=EVERYBODY, options=options)
        assert painted is image and report.startswith(text) and vae.calls == []
    assert "Bypassed" in caplog.text


def test_it_tells_of_people_in_the_model_and_of_crops_that_shrink(nodes, world, refine, person_of, caplog):
    model, *_ = apply_person(nodes, world, person_of(4))
    refine(fx.portrait("a"), person_of(4), who=EVERYBODY, model=model)
    assert "shows a person of InstantID already" in caplog.text and "painted with 64" in caplog.text
