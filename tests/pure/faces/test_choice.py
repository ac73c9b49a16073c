"""Which face is meant: orders, ties, indices that do not exist."""

import numpy as np
import pytest
from instantid_swift.faces.choice import ORDERS, Face, FaceChoice, FaceIndexError

SIZE = (200, 100)


def face(left, top, width, height, score):
    points = np.zeros((5, 2), np.float32)
    return Face(np.array((left, top, left + width, top + height), np.float32), score, points, 640)


# most certain first, as they come from the detector
FACES = {"b": face(90, 5, 20, 20, 0.9), "a": face(10, 30, 30, 30, 0.8), "c": face(150, 60, 10, 10, 0.7),
         "d": face(95, 45, 10, 10, 0.6)}


def names(order, faces=FACES):
    chosen = [FaceChoice(order, index).of(list(faces.values()), SIZE) for index in range(len(faces))]
    return "".join(name for one in chosen for name, face in faces.items() if face is one)


@pytest.mark.parametrize("order, wanted", [
    ("largest", "abcd"), ("left to right", "abdc"), ("right to left", "cbda"), ("top to bottom", "badc"),
    ("most central", "dbca"), ("most certain", "bacd")])
def test_orders(order, wanted):
    """c and d are of one size, b and d are at one distance from the left: the more certain comes first."""
    assert names(order) == wanted


def test_every_order_is_tested():
    assert ORDERS == ["largest", "left to right", "right to left", "top to bottom", "most central", "most certain"]


@pytest.mark.parametrize("order", ORDERS)
def test_equals_keep_the_detectors_order(order):
    twins = {name: face(20, 20, 30, 30, 0.75) for name in "abc"}
    assert names(order, twins) == "abc"


@pytest.mark.parametrize("faces, index, said", [
    (4, 4, "There is no face 4 in the image at index 2: it shows 4 faces, so there are faces 0 to 3."),
    (1, 1, "There is no face 1 in the image at index 2: it shows 1 face, so there is only face 0."),
    (4, -1, "There is no face -1 in the image at index 2"),
])
def test_an_index_that_does_not_exist(faces, index, said):
    with pytest.raises(FaceIndexError) as error:
        FaceChoice("largest", index).of(list(FACES.values())[:faces], SIZE, picture=2)
    assert str(error.value).startswith(said)
