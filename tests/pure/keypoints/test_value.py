"""KEYPOINTS: several faces on one canvas."""

import numpy as np
from instantid_swift.keypoints import KeypointFace, Keypoints, draw
from instantid_swift.utils import draw_keypoints

LEFT = np.array([[60.7, 80.2], [100.1, 78.9], [82.3, 100.5], [66.0, 121.9], [97.4, 120.1]])
RIGHT = LEFT + (150, 12)


def test_one_face_is_drawn_as_ever():
    assert np.array_equal(draw(Keypoints(320, 200, (KeypointFace(LEFT),))), draw_keypoints(200, 320, LEFT))


def test_two_faces_apart_are_both_drawn_as_ever():
    both = draw(Keypoints(320, 200, (KeypointFace(LEFT), KeypointFace(RIGHT))))
    assert np.array_equal(both, np.maximum(draw_keypoints(200, 320, LEFT), draw_keypoints(200, 320, RIGHT)))


def test_a_later_face_covers_an_earlier_one():
    covered = draw(Keypoints(320, 200, (KeypointFace(LEFT), KeypointFace(LEFT))))
    assert np.array_equal(covered, draw_keypoints(200, 320, LEFT))


def test_opacity_darkens_a_point_and_its_sticks():
    drawn = draw(Keypoints(320, 200, (KeypointFace(LEFT, (0.5, 1.0, 1.0, 1.0, 0.0)),)))
    assert drawn[80, 60].tolist() == [127, 0, 0] and drawn[78, 100].tolist() == [0, 255, 0]
    assert not (drawn == (255, 0, 255)).all(axis=2).any()


def test_no_face_is_black():
    assert not draw(Keypoints(32, 20, ())).any() and draw(Keypoints(32, 20, ())).shape == (20, 32, 3)
