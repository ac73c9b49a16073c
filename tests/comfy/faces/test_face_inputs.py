"""The nodes' inputs about faces: which one is taken, and what becomes of photos without one."""

import logging

import pytest
import torch
from instantid_swift import faces
from instantid_swift.faces.choice import ORDERS, FaceChoice, FaceIndexError
from oracle import cases
from oracle import fixtures as fx
from photos import bgr

FACE_NODES = ["ApplyInstantID", "ApplyInstantIDAdvanced", "InstantIDAttentionPatch", "FaceKeypointsPreprocessor"]


def optional(nodes, node):
    return nodes[node].INPUT_TYPES()["optional"]


@pytest.mark.parametrize("node", FACE_NODES)
def test_the_new_inputs_are_optional_and_default_to_what_was(nodes, node):
    inputs = optional(nodes, node)
    assert inputs["face"][0] == ORDERS and inputs["face"][1]["default"] == ORDERS[0] == "largest"
    assert inputs["face_index"][0] == "INT" and inputs["face_index"][1]["default"] == 0
    assert inputs["no_face"][0] == ["skip", "error"] + ["bypass"] * node.startswith("Apply")
    assert inputs["no_face"][1]["default"] == "skip"
    known = [key for key in inputs if key in ("image_kps", "mask")]
    assert list(inputs)[:len(known)] == known


def drawn(nodes, world, **inputs):
    return cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.photo(), **inputs)[0]


def people(world):
    """insightface's faces of the group photo, left to right."""
    return sorted(world.analysis.get(bgr(fx.photo())), key=lambda face: face.bbox[0] + face.bbox[2])


def test_the_chosen_face_gives_the_embedding(nodes, world):
    for index, person in enumerate(people(world)):
        for order, number in (("left to right", index), ("right to left", 5 - index)):
            embedding = faces.reference_embeddings(world.analysis, fx.photo(), FaceChoice(order, number))
            torch.testing.assert_close(embedding[0, 0], torch.from_numpy(person.embedding), rtol=1e-4, atol=1e-3)


def test_the_chosen_face_gives_the_keypoints(nodes, world):
    for index, person in enumerate(people(world)):
        picture = drawn(nodes, world, face="left to right", face_index=index)
        nose_x, nose_y = person.kps[2].astype(int)
        assert picture[0, nose_y, nose_x].tolist() == [0, 0, 1]
        rows, columns = picture[0].amax(-1).nonzero().T
        left, top, right, bottom = person.bbox
        assert left - 12 < columns.min() and columns.max() < right + 12 and top - 12 < rows.min() and rows.max() < bottom + 12


def hint(conditioning):
    return conditioning[0][1]["control"].cond_hint_original


@pytest.mark.parametrize("apply", [cases.apply, cases.advanced])
def test_apply_takes_embedding_and_keypoints_of_one_face(nodes, world, apply):
    choice = {"face": "right to left", "face_index": 1}
    model, positive, _ = apply(nodes, world, image=fx.photo(), **choice)
    assert torch.equal(hint(positive).movedim(1, -1), drawn(nodes, world, **choice))
    _, embeds = cases.patch(nodes, world, image=fx.photo(), **choice)
    tokens = positive[0][1]["cross_attn_controlnet"]
    assert torch.equal(tokens, embeds["cond"])
    assert not torch.equal(tokens, apply(nodes, world, image=fx.photo())[1][0][1]["cross_attn_controlnet"])


def test_the_choice_is_about_the_photos_of_the_person_only(nodes, world):
    """A picture for pose has one face, while the photo has six."""
    _, positive, _ = cases.apply(nodes, world, image=fx.photo(), image_kps=fx.portrait("b"), face="top to bottom", face_index=4)
    pose, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("b"))
    assert torch.equal(hint(positive).movedim(1, -1), pose)


@pytest.mark.parametrize("node", [cases.apply, cases.advanced, cases.patch])
def test_a_face_that_is_not_there(nodes, world, node):
    with pytest.raises(FaceIndexError, match="no face 6 in the image at index 0: it shows 6 faces, so there are faces 0 to 5"):
        node(nodes, world, image=fx.photo(), face_index=6)
    two_people = fx.photo()[:, 180:580, 380:960]
    one_of_them = two_people.clone()
    one_of_them[:, :, 280:] = 0
    with pytest.raises(FaceIndexError, match="no face 1 in the image at index 1: it shows 1 face, so there is only face 0"):
        node(nodes, world, image=torch.cat([two_people, one_of_them]), face_index=1)


BLANK = torch.full((1, 320, 320, 3), 0.5)


def one_blank():
    return torch.cat([fx.portrait("a"), BLANK, fx.portrait("b")])


@pytest.mark.parametrize("node", [cases.apply, cases.advanced, cases.patch])
def test_a_photo_without_a_face_is_an_error_if_wanted(nodes, world, node):
    node(nodes, world, image=one_blank())
    with pytest.raises(faces.NoFaceError, match="No face detected. The image at index 1 of a batch of 3, whose first is at 0,"):
        node(nodes, world, image=one_blank(), no_face="error")


def test_keypoints_of_a_batch_with_a_photo_without_a_face(nodes, world):
    def draw(**inputs):
        return cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, **inputs)[0]
    assert draw(image=one_blank()).shape[0] == 2
    with pytest.raises(faces.NoFaceError, match="at index 1 of a batch of 3"):
        draw(image=one_blank(), no_face="error")
    with pytest.raises(faces.NoFaceError, match="The image"):
        draw(image=BLANK, no_face="error")


@pytest.mark.parametrize("apply", [cases.apply, cases.advanced])
@pytest.mark.parametrize("image", [BLANK, one_blank()])
def test_bypass_returns_the_inputs(nodes, world, apply, image, caplog):
    result = apply(nodes, world, image=image, no_face="bypass")
    assert all(a is b for a, b in zip(result, (world.model, world.positive, world.negative), strict=True))
    message, = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert "bypassed" in message and "No face detected" in message


@pytest.mark.parametrize("apply", [cases.apply, cases.advanced])
def test_bypass_changes_nothing_where_all_have_faces(nodes, world, apply):
    model, positive, negative = apply(nodes, world, no_face="bypass")
    assert model is not world.model and "control" in positive[0][1]
