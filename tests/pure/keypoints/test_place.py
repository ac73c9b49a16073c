"""Keypoints moved, scaled, mirrored, fitted and put together."""

import numpy as np
import pytest
import torch
from instantid_swift.keypoints import head, place
from instantid_swift.keypoints.keypoints import MOST_FACES
from instantid_swift.utils import InstantIDError

HEAD = head.turned_head(1000, 800, 0.3, 0.4, 0.4, 25, 5, 10)


def points(keypoints):
    return np.concatenate([face.points for face in keypoints.faces])


def test_moving_and_scaling_and_back():
    there = place.rotated(place.scaled(place.moved(HEAD, 20, -7), 1.5), 33)
    back = place.moved(place.scaled(place.rotated(there, -33), 1 / 1.5), -20, 7)
    assert np.abs(points(back) - points(HEAD)).max() < 1e-9
    assert np.abs(points(place.moved(HEAD, 20, -7)) - points(HEAD) - [20, -7]).max() < 1e-9


def test_mirrored_twice_is_the_same():
    once = place.flipped(HEAD)
    assert points(once)[0] == pytest.approx([1000 - points(HEAD)[1][0], points(HEAD)[1][1]])
    twice = place.flipped(once)
    assert np.abs(points(twice) - points(HEAD)).max() < 1e-9 and twice.faces[0].opacities == HEAD.faces[0].opacities


def test_a_face_fills_the_box_that_it_is_fitted_into():
    fitted = place.fitted(HEAD, (100, 200, 300, 600))
    left, top, right, bottom = head.face_box(fitted.faces[0].points)
    assert left >= 100 - 1e-6 and right <= 300 + 1e-6 and top >= 200 - 1e-6 and bottom <= 600 + 1e-6
    assert right - left == pytest.approx(200) or bottom - top == pytest.approx(400)
    with pytest.raises(InstantIDError, match="a box of 0 x 4 pixels"):
        place.fitted(HEAD, (5, 5, 5, 9))


def test_the_box_of_a_mask_is_in_the_pictures_pixels():
    mask = torch.zeros(1, 40, 50)
    mask[0, 10:20, 25:30] = 1
    assert place.box_of_mask(mask, 1000, 800) == (500, 200, 600, 400)
    with pytest.raises(InstantIDError, match="selects nothing"):
        place.fitted(HEAD, place.box_of_mask(mask * 0, 1000, 800))


def test_faces_are_joined_in_their_order_and_the_first_ones_picture():
    other = head.frontal_head(500, 400)
    both = place.joined([HEAD, other])
    assert (both.width, both.height, len(both.faces)) == (1000, 800, 2)
    assert np.array_equal(both.faces[0].points, HEAD.faces[0].points)
    assert both.faces[1].points == pytest.approx(other.faces[0].points * 2)
    with pytest.raises(InstantIDError, match=f"hold {MOST_FACES + 1} faces; they must hold 1 to {MOST_FACES}"):
        place.joined([HEAD] * (MOST_FACES + 1))
