"""Keypoints moved, scaled, turned in the plane, mirrored, fitted into a box, put together."""

import math

import numpy as np

from ..utils import InstantIDError
from .head import face_box
from .keypoints import Keypoints, resized, usable_keypoints

MIRRORED = [1, 0, 2, 4, 3]  # left and right change places


def mapped(keypoints, function):
    """Returns the keypoints with function(points [5, 2]) in place of each face's points."""
    return keypoints._replace(faces=tuple(face._replace(points=function(face.points)) for face in keypoints.faces))


def middle(keypoints):
    """Returns the mean [2] of all points, in pixels."""
    return np.mean([face.points for face in keypoints.faces], axis=(0, 1))


def moved(keypoints, x, y):
    """Returns the keypoints moved by pixels to the right and down."""
    return mapped(keypoints, lambda points: points + np.array([x, y]))


def scaled(keypoints, factor):
    """Returns the keypoints larger or smaller about their middle."""
    centre = middle(keypoints)
    return mapped(keypoints, lambda points: (points - centre) * factor + centre)


def rotated(keypoints, degrees):
    """Returns the keypoints turned clockwise in the plane of the picture, about their middle."""
    centre, angle = middle(keypoints), math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return mapped(keypoints, lambda points: (points - centre) @ matrix.T + centre)


def flipped(keypoints):
    """Returns the keypoints of the mirrored picture: a left eye becomes a right eye. The order of the faces stays."""
    return keypoints._replace(faces=tuple(
        face._replace(points=(face.points * [-1, 1] + [keypoints.width, 0])[MIRRORED],
                      opacities=tuple(face.opacities[index] for index in MIRRORED)) for face in keypoints.faces))


def fitted(keypoints, box):
    """Returns the keypoints as large as a box allows, in its middle. All faces together are moved and scaled evenly.

    box: (left, top, right, bottom) in pixels, None if a mask selects nothing. InstantIDError if the box is empty or infinite.
    """
    if box is None:
        raise InstantIDError("The keypoints cannot be fitted into the mask, because the mask selects nothing. Draw the place "
                             "of the face.")
    left, top, right, bottom = box
    if not (0 < right - left < math.inf and 0 < bottom - top < math.inf):
        raise InstantIDError(f"The keypoints cannot be fitted into a box of {right - left:g} x {bottom - top:g} pixels. "
                             "Connect a box with a width and a height above 0.")
    boxes = np.array([face_box(face.points) for face in keypoints.faces])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    extent = high - low
    if not extent.all():
        raise InstantIDError("The keypoints cannot be fitted into a box, because all of them lie in one place.")
    factor = min((right - left) / extent[0], (bottom - top) / extent[1])
    goal, centre = np.array([left + right, top + bottom]) / 2, (low + high) / 2
    return mapped(keypoints, lambda points: (points - centre) * factor + goal)


def box_of_mask(mask, width, height):
    """Returns the box (left, top, right, bottom) of a mask, in pixels of a picture; None if the mask selects nothing.

    mask: [h, w] or [n, h, w], of which the first counts; what is above 0.5 is selected.
    """
    mask = mask.reshape(-1, *mask.shape[-2:])[0].detach().cpu().float().numpy() > 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    across, down = width / mask.shape[1], height / mask.shape[0]
    return columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down


def joined(parts):
    """Returns the faces of several `Keypoints` in their order, in a picture of the first one's size.

    InstantIDError if they are too many.
    """
    width, height = parts[0].width, parts[0].height
    return usable_keypoints(Keypoints(width, height, tuple(
        face for part in parts for face in resized(part, width, height).faces)))


def corners(box):
    """Returns (left, top, right, bottom) of a BOUNDING_BOX {"x", "y", "width", "height"}; of a list the first counts."""
    while isinstance(box, list):
        box = box[0]
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
