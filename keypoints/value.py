"""KEYPOINTS: the five points of one or more faces in a picture of known size, and their drawing."""

from typing import NamedTuple

import numpy as np

from ..utils import ALL_VISIBLE, paint_keypoints, pictures_to_image

MOST_SIDE = 2048  # pixels of a drawing, which is plenty for points


class KeypointFace(NamedTuple):
    """The five points of one face."""
    points: np.ndarray             # [5, 2] in pixels: left eye, right eye, nose, left and right corner of the mouth
    opacities: object = ALL_VISIBLE  # five numbers, 0 to 1


class Keypoints(NamedTuple):
    """Faces in a picture of a size."""
    width: int
    height: int
    faces: tuple  # of KeypointFace; where several people are meant, in their order


def resized(keypoints, width, height):
    """Returns the keypoints in a picture of another size, at the same place in it."""
    factors = np.array([width / keypoints.width, height / keypoints.height])
    return Keypoints(width, height, tuple(face._replace(points=face.points * factors) for face in keypoints.faces))


def draw(keypoints):
    """Draws all faces on one canvas, one after the other: uint8 [height, width, 3], RGB.

    For one face with all points visible it equals `utils.draw_keypoints`.
    """
    canvas = np.zeros((keypoints.height, keypoints.width, 3), dtype=np.uint8)
    for face in keypoints.faces:
        paint_keypoints(canvas, face.points, face.opacities)
    return canvas


def drawing(keypoints, opacity=1.0, most_side=MOST_SIDE):
    """Keypoints as IdentityNet reads them: IMAGE [1, h, w, 3], in the memory layout of the preprocessor's drawings.

    opacity: of all points, besides their own. most_side: pixels of the longer side, to which a larger picture is shrunk.
    """
    shrunk = most_side / max(keypoints.width, keypoints.height)
    if shrunk < 1:
        keypoints = resized(keypoints, max(round(keypoints.width * shrunk), 1), max(round(keypoints.height * shrunk), 1))
    faded = keypoints._replace(faces=tuple(
        face._replace(opacities=tuple(value * opacity for value in face.opacities)) for face in keypoints.faces))
    return pictures_to_image([draw(faded)])
