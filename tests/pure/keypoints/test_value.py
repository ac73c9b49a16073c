"""KEYPOINTS: several faces on one canvas."""

import numpy as np
from instantid_swift.keypoints import KeypointFace, Keypoints, draw
from instantid_swift.utils import draw_keypoints

LEFT = np.array([[60.7, 80.2], [100.1, 78.9], [82.3, 100.5], [66.0, 121.9], [97.4, 120.1]])
RIGHT = LEFT + (150, 12)


def drawn(*faces):
    return draw(Keypoints(320, 200, faces))


def test_faces_are_drawn_as_ever_and_a_later_one_covers_an_earlier_one():
    one, other = draw_keypoints(200, 320, LEFT), draw_keypoints(200, 320, RIGHT)
    assert np.array_equal(drawn(KeypointFace(LEFT)), one)
    assert np.array_equal(drawn(KeypointFace(LEFT), KeypointFace(RIGHT)), np.maximum(one, other))
    assert np.array_equal(drawn(KeypointFace(LEFT), KeypointFace(LEFT)), one)


def test_opacity_darkens_a_point_and_its_sticks():
    faded = drawn(KeypointFace(LEFT, (0.5, 1.0, 1.0, 1.0, 0.0)))
    assert faded[80, 60].tolist() == [127, 0, 0] and faded[78, 100].tolist() == [0, 255, 0]
    assert not (faded == (255, 0, 255)).all(axis=2).any()
