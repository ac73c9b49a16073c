"""Which face is meant: orders, ties, indices that do not exist."""

import numpy as np
from instantid_swift.faces.photos import ORDERS, Face, FaceChoice

SIZE = (200, 100)


def face(left, top, width, height, score):
    points = np.zeros((5, 2), np.float32)
    return Face(np.array((left, top, left + width, top + height), np.float32), score, points, 640)


# most certain first, as they come from the detector
FACES = {"b": face(90, 5, 20, 20, 0.9), "a": face(10, 30, 30, 30, 0.8), "c": face(150, 60, 10, 10, 0.7),
         "d": face(95, 45, 10, 10, 0.6)}


def test_orders():
    """c and d are of one size, b and d are at one distance from the left: the more certain comes first."""
    def names(order):
        chosen = FaceChoice(order).sort(list(FACES.values()), SIZE)
        return "".join(name for one in chosen for name, face in FACES.items() if face is one)
    assert {order: names(order) for order in ORDERS} == {
        "largest": "abcd", "left to right": "abdc", "right to left": "cbda", "top to bottom": "badc", "most central": "dbca",
        "most certain": "bacd"}
