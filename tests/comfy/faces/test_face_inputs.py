"""The options about faces, in each node that looks at photos: which one is taken, and what becomes of photos without one."""

import logging

import pytest
import torch
from instantid_swift import faces
from instantid_swift.faces.photos import FaceChoice
from instantid_swift.options.nodes import Options
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from photos import bgr, read_image, same_face

pytestmark = pytest.mark.newest


def drawn(nodes, world, **inputs):
    return cases.call(nodes, "FaceKeypointsPreprocessor", **{"faceanalysis": world.analysis, "image": fx.photo(), **inputs})[0]


def people(world):
    """insightface's faces of the group photo, left to right."""
    return sorted(world.analysis.get(bgr(fx.photo())), key=lambda face: face.bbox[0] + face.bbox[2])


def test_the_chosen_face_gives_the_embedding_and_the_keypoints(nodes, world):
    for index, person in enumerate(people(world)):
        for order, number in (("left to right", index), ("right to left", 5 - index)):
            embedding = faces.Photos(world.analysis, fx.photo(), FaceChoice(order, number)).references()
            assert same_face(embedding[0, 0], person.embedding)
        picture = drawn(nodes, world, options=Options(FaceChoice("left to right", index)))
        nose_x, nose_y = person.kps[2].astype(int)
        assert picture[0, nose_y, nose_x].tolist() == [0, 0, 1]
        rows, columns = picture[0].amax(-1).nonzero().T
        left, top, right, bottom = person.bbox
        assert left - 12 < columns.min() and columns.max() < right + 12 and top - 12 < rows.min() and rows.max() < bottom + 12


def hint(conditioning):
    return conditioning[0][1]["control"].cond_hint_original


@pytest.mark.parametrize("apply", [cases.apply, cases.advanced])
def test_apply_takes_embedding_and_keypoints_of_one_face(nodes, world, apply):
    choice = {"options": Options(FaceChoice("right to left", 1))}
    model, positive, _ = apply(nodes, world, image=fx.photo(), **choice)
    assert torch.equal(hint(positive).movedim(1, -1), drawn(nodes, world, **choice))
    _, embeds = cases.patch(nodes, world, image=fx.photo(), **choice)
    tokens = positive[0][1]["cross_attn_controlnet"]
    assert torch.equal(tokens, embeds["cond"])
    assert not torch.equal(tokens, apply(nodes, world, image=fx.photo())[1][0][1]["cross_attn_controlnet"])


def test_the_choice_is_about_the_photos_of_the_person_only(nodes, world):
    """A picture for pose has one face, while the photo has six."""
    _, positive, _ = cases.apply(nodes, world, image=fx.photo(), image_kps=fx.portrait("b"),
                                 options=Options(FaceChoice("top to bottom", 4)))
    pose, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("b"))
    assert torch.equal(hint(positive).movedim(1, -1), pose)


@pytest.mark.parametrize("node", [cases.apply, cases.advanced, cases.patch])
def test_a_face_that_is_not_there(nodes, world, node):
    with pytest.raises(InstantIDError, match="no face 6 in the image at index 0: it shows 6 faces, so there are faces 0 to 5"):
        node(nodes, world, image=fx.photo(), options=Options(FaceChoice(index=6)))


BLANK = torch.full((1, 320, 320, 3), 0.5)


def one_blank():
    return torch.cat([fx.portrait("a"), BLANK, fx.portrait("b")])


@pytest.mark.parametrize("node", [cases.apply, cases.advanced, cases.patch])
def test_a_photo_without_a_face_is_an_error_if_wanted(nodes, world, node):
    node(nodes, world, image=one_blank())
    with pytest.raises(faces.NoFaceError, match="No face detected. The image at index 1 of a batch of 3, whose first is at 0,"):
        node(nodes, world, image=one_blank(), options=Options(no_face="error"))
    with pytest.raises(faces.NoFaceError, match="at index 1 of a batch of 3"):
        drawn(nodes, world, image=one_blank(), options=Options(no_face="error"))


@pytest.mark.parametrize("apply, image", [(cases.apply, BLANK), (cases.advanced, one_blank())])
def test_bypass_returns_the_inputs(nodes, world, apply, image, caplog):
    result = apply(nodes, world, image=image, options=Options(no_face="bypass"))
    assert all(a is b for a, b in zip(result, (world.model, world.positive, world.negative), strict=True))
    message, = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert message.startswith("InstantID: Bypassed") and "No face detected" in message


def test_bypass_of_the_likeness_bypasses_identity_net(nodes, world):
    model, embeds = cases.patch(nodes, world, image=BLANK, options=Options(no_face="bypass"))
    assert model is world.model
    wired = cases.call(nodes, "ApplyInstantIDControlNet", face_embeds=embeds, control_net=world.net, image_kps=BLANK,
                       positive=world.positive, negative=world.negative, strength=1.0, start_at=0.0, end_at=1.0)
    assert wired[0] is world.positive and wired[1] is world.negative


def test_bypass_of_the_keypoints_hands_on_the_photos(nodes, world):
    image = one_blank()
    assert drawn(nodes, world, image=image, options=Options(no_face="bypass")) is image


@pytest.mark.parametrize("node", [cases.apply, cases.advanced, cases.patch])
def test_small_faces_are_found_if_wanted(nodes, world, node):
    image = torch.full((1, 2000, 2400, 3), 0.4)
    image[0, 1500:1560, 700:760] = read_image(fx.portrait("a")[0], (60, 60))[0]
    with pytest.raises(faces.NoFaceError, match="turn on small_faces in InstantID Options"):
        node(nodes, world, image=image)
    node(nodes, world, image=image, options=Options(small_faces=True))
