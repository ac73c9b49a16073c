"""Where people are in a picture: boxes, strips, drawings."""

import pytest
import torch
from instantid_swift.keypoints import KeypointFace, Keypoints, draw, drawing
from instantid_swift.people.person import Person
from instantid_swift.people.places import PersonInPicture, Settings, face_in_box, hint_of_person, noses_in, place_people, strips
from instantid_swift.utils import InstantIDError, pictures_to_image

FACE = torch.tensor([[60.0, 80.0], [100.0, 79.0], [82.0, 100.0], [66.0, 121.0], [97.0, 120.0]])


def one(mask=None, keypoints=None, points=FACE):
    person = Person(torch.ones(1, 512), points[None], torch.tensor([[200, 300]]), "antelopev2/glintr100.onnx")
    return PersonInPicture(person, Settings(mask=mask), keypoints)


def keypoints(x, y=0.0, width=640, height=480):
    return Keypoints(width, height, (KeypointFace(FACE.numpy() + [x, y]),))


def columns(mask):
    """The first column of a mask and the one after its last, if all its rows are alike."""
    weights = mask[0]
    inside = weights[0].nonzero()[:, 0]
    assert (weights == weights[0]).all()
    return int(inside[0]), int(inside[-1]) + 1


def test_strips_are_divided_halfway_between_the_faces():
    left, middle, right = strips([500.0, 100.0, 900.0], 1024, 8)
    assert [int(mask.nonzero()[:, 2].min()) for mask in (left, middle, right)] == [300, 0, 700]
    assert torch.equal(left + middle + right, torch.ones(1, 8, 1024))


def test_faces_at_one_place_cannot_be_divided():
    with pytest.raises(InstantIDError, match="at the same place"):
        strips([0.0, 0.0], 64, 64)


def test_without_masks_the_picture_is_divided_by_the_places_of_the_faces():
    hint, masks = place_people([one(keypoints=keypoints(400)), one(keypoints=keypoints(20))], 1024, 1024)
    border = round((FACE[:, 0].mean().item() * 2 + 420) / 2)
    assert [columns(mask) for mask in masks] == [(border, 640), (0, border)]
    both = Keypoints(640, 480, keypoints(400).faces + keypoints(20).faces)
    assert torch.equal(hint, pictures_to_image([draw(both)]))


def test_with_nothing_but_photos_people_stand_from_left_to_right_in_the_order_of_the_list():
    hint, masks = place_people([one(), one(), one()], 1200, 800)
    assert hint.shape == (1, 800, 1200, 3)
    assert [columns(mask) for mask in masks] == [(0, 402), (402, 802), (802, 1200)]
    assert noses_in(hint[0]) == pytest.approx([205, 605, 1005], abs=1)


def test_faces_go_into_the_masks():
    low = torch.zeros(1, 64, 64)
    low[:, 32:, :32] = 1
    hint, masks = place_people([one(mask=low), one()], 1024, 1024)
    assert hint.shape == (1, 512, 512, 3) and masks[1] is None and torch.equal(masks[0], low)
    points = face_in_box(FACE, (0, 256, 256, 512))
    assert torch.allclose(points.amax(0) - points.amin(0), (FACE.amax(0) - FACE.amin(0)).double() * 64 / 42)
    assert (hint[0, int(points[2, 1]), int(points[2, 0])] == torch.tensor([0.0, 0, 1])).all()


def test_keypoints_of_another_picture_size_are_scaled():
    hint, _ = place_people([one(keypoints=keypoints(400)), one(keypoints=keypoints(40, width=1280, height=960))], 64, 64)
    assert hint.shape == (1, 480, 640, 3)
    assert noses_in(hint[0]) == pytest.approx([(82 + 40) / 2, 482], abs=2)


def test_a_given_drawing_is_used_as_it_is_and_its_noses_tell_the_places(caplog):
    drawn = drawing(Keypoints(640, 480, keypoints(20).faces + keypoints(300).faces))
    hint, masks = place_people([one(), one(keypoints=keypoints(0))], 64, 64, drawn)
    assert hint is drawn and [columns(mask) for mask in masks] == [(0, 242), (242, 640)]
    _, masks = place_people([one(), one(), one()], 64, 64, drawn)  # not as many noses
    assert [columns(mask) for mask in masks] == [(0, 213), (213, 427), (427, 640)]


def test_drawings_of_large_pictures_are_shrunk():
    large = one(keypoints=keypoints(0, width=16384, height=8192))
    assert drawing(large.keypoints).shape == hint_of_person(large).shape == (1, 1024, 2048, 3)
    for person in (large, one(mask=torch.ones(1, 4096, 8192))):
        assert place_people([person, one(mask=torch.zeros(1, 64, 64))], 8192, 16384)[0].shape == (1, 1024, 2048, 3)
