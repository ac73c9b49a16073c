"""Which face becomes which person."""

import itertools

import numpy as np
import pytest
import torch
from instantid_swift import faces
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.likeness.measure import ANOTHER
from instantid_swift.refine.assign import (
    BY_LIKENESS,
    EVERYBODY,
    LEFT_TO_RIGHT,
    PlacedFace,
    assignment,
    place_faces,
)
from instantid_swift.utils import InstantIDError
from oracle import fixtures as fx

# of four faces with three people
COSINES = np.array([[0.30, 0.80, 0.10], [0.70, 0.75, 0.00], [0.05, 0.10, 0.27], [0.10, 0.20, 0.10]])


def test_by_likeness_the_sum_is_the_largest_in_any_order():
    """The second face is most like the second person, who is another one's."""
    for order in itertools.permutations(range(3)):
        people = assignment(COSINES[:, order], BY_LIKENESS)
        assert [None if person is None else order[person] for person in people] == [1, 0, None, None]
    for order in itertools.permutations(range(4)):
        people = assignment(COSINES[list(order)], BY_LIKENESS)
        assert [people[order.index(face)] for face in range(4)] == [1, 0, None, None]


def test_who_is_not_similar_takes_nobodys_person():
    """The sum of all cosines would be larger with the face of 0.29 as person 0, and the best face as nobody."""
    assert assignment([[0.6, 0.27], [0.29, -0.5]], BY_LIKENESS) == [0, None]
    assert assignment([[ANOTHER]], BY_LIKENESS) == [0] and assignment([[ANOTHER - 1e-6]], BY_LIKENESS) == [None]
    assert assignment([[-0.2, -0.1]], BY_LIKENESS) == [None] and assignment([], BY_LIKENESS) == []


def test_by_place_and_one_for_all():
    assert assignment(COSINES, LEFT_TO_RIGHT) == [0, 1, 2, None]
    assert assignment(COSINES[:2], LEFT_TO_RIGHT) == [0, 1] and assignment([], LEFT_TO_RIGHT) == []
    assert assignment(COSINES, EVERYBODY) == [0, 0, 0, 0]


@pytest.mark.parametrize("cosine, leave_above, painted", [
    (0.4, 1.0, True), (1.0, 1.0, True), (0.4, 0.5, True), (0.5, 0.5, False), (0.4, 0.0, False), (-0.4, 0.0, False)])
def test_faces_that_are_like_enough_are_left_alone(cosine, leave_above, painted):
    """0 leaves all alone, 1 none."""
    face = PlacedFace(0, 0, (0, 0, 1, 1), None, (), (0.9, cosine), 1)
    assert face.is_to_be_painted(leave_above) is painted
    assert not face._replace(person=None).is_to_be_painted(1.0) and face._replace(person=None).before == max(0.9, cosine)


def test_faces_are_numbered_from_left_to_right_in_each_picture(ours):
    pictures = torch.cat([fx.photo(), torch.zeros_like(fx.photo()), fx.photo().flip(2)])
    first, none, mirrored = place_faces(faces.Photos(ours, pictures))
    assert none == [] and [len(first), len(mirrored)] == [6, 6]
    for picture, found in ((0, first), (2, mirrored)):
        assert [face[:2] for face in found] == [(picture, number) for number in range(6)]
        assert [face.box[0] for face in found] == sorted(face.box[0] for face in found)
        assert all({face.box, *face.others} == {one.box for one in found} and len(face.others) == 5 for face in found)


def test_keypoints_take_the_place_of_the_detector(counted):
    """They are scaled to the picture, and drawn with their opacities. A face cut by the edge has the box that is left of it."""
    analysis, detector, _ = counted
    points = np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], dtype=float)
    far, near = KeypointFace(points + [55, 0], (1, 0.5, 1, 1, 1)), KeypointFace(points)
    placed = place_faces(faces.Photos(analysis, torch.zeros(2, 200, 200, 3)), Keypoints(100, 100, (far, near)))
    assert detector.runs == 0 and [len(found) for found in placed] == [2, 2]
    left, right = placed[1]
    assert left.keypoints.points.tolist() == (points * 2).tolist() and right.keypoints.opacities == far.opacities
    assert right.box[2] == 200 and 0 < left.box[0] < left.box[2] < right.box[0] < 200 and left.size == 80
    with pytest.raises(InstantIDError, match="outside of the picture of 200x200 pixels, or is smaller than a pixel"):
        place_faces(faces.Photos(analysis, torch.zeros(1, 200, 200, 3)), Keypoints(100, 100, (KeypointFace(points + 500),)))
