"""Faults put into good photos, step by step. Pictures are uint8 BGR [h, w, 3], faces `faces.photos.Face`."""

import functools
import pickle
from pathlib import Path

import cv2
import insightface
import numpy as np
from scipy.spatial import Delaunay

# in distances between the eyes:
FOREHEAD = (0.7, -0.3)  # a row of points above the brows and behind them: the mean shape ends at the brows
STAYS = 2.6             # radius of a ring around the face, outside of which nothing moves


def width_of(face):
    return float(face.box[2] - face.box[0])


def smaller(picture, face, pixels):
    """The face is so many pixels wide."""
    scale = pixels / width_of(face)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def blurred(picture, face, percent):
    """A Gaussian blur, whose standard deviation is so many per cent of the face's width."""
    return cv2.GaussianBlur(picture, (0, 0), width_of(face) * percent / 100)


def brighter(picture, face, factor):
    """All grey levels times a factor: rounded, and cut off at 255."""
    return np.clip(picture * float(factor), 0, 255).round().astype(np.uint8)


def darker(picture, face, divisor):
    return brighter(picture, face, 1 / divisor)


def cut(side, picture, face, percent):
    """So many per cent of the face's box are cut off at one side, and the photo ends there."""
    left, top, right, bottom = face.box
    part = percent / 100
    if side == "left":
        return picture[:, max(int(left + part * (right - left)), 0):].copy()
    if side == "top":
        return picture[max(int(top + part * (bottom - top)), 0):].copy()
    return picture[:int(bottom - part * (bottom - top))].copy()


def framed(picture, face, percent):
    """The photo ends so many per cent of the face's box beyond that box."""
    (left, top, right, bottom), (height, width) = face.box, picture.shape[:2]
    x, y = (right - left) * percent / 100, (bottom - top) * percent / 100
    return picture[max(int(top - y), 0):min(int(bottom + y), height), max(int(left - x), 0):min(int(right + x), width)].copy()


@functools.cache
def _mean_shape():
    """Points [n, 3] of the mean face in units of `keypoints.head`: insightface's 68 and some of the forehead."""
    shape = pickle.loads((Path(insightface.__file__).parent / "data" / "objects" / "meanshape_68.pkl").read_bytes())
    eyes = np.stack((shape[36:42].mean(axis=0), shape[42:48].mean(axis=0)))
    origin = np.array([*eyes.mean(axis=0)[:2], shape[[0, 16], 2].mean()])
    points = (shape - origin) / np.linalg.norm(eyes[1, :2] - eyes[0, :2])
    return np.concatenate((points, points[17:27] + [0, -FOREHEAD[0], FOREHEAD[1]]))


def turned(picture, face, degrees):
    """The face's surface, taken for that of the mean face, is turned further away from the viewer, and what is around it drawn
    along; farther away nothing moves."""
    from instantid_swift.keypoints.head import pose_of, rotation
    pose, scale, place = pose_of(face.points)
    further = rotation(-np.sign(pose[2, 0]) * degrees, 0, 0) @ pose
    points, angles = _mean_shape(), np.arange(24) * np.pi / 12
    ring = place + scale * STAYS * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    before, after = (np.concatenate(((points @ matrix.T)[:, :2] * scale + place, ring)) for matrix in (pose, further))
    depth = np.concatenate(((points @ further.T)[:, 2], np.zeros(len(ring))))
    made = picture.copy()
    for corners in sorted(Delaunay(before).simplices.tolist(), key=lambda corners: depth[corners].mean()):
        source, goal = before[corners].astype(np.float32), after[corners].astype(np.float32)
        if np.linalg.det(np.column_stack((source, np.ones(3)))) * np.linalg.det(np.column_stack((goal, np.ones(3)))) <= 0:
            continue  # seen from behind
        low = np.maximum(np.floor(goal.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(goal.max(axis=0)).astype(int) + 1, picture.shape[1::-1])
        if (high <= low).any():
            continue
        matrix = cv2.getAffineTransform(source, goal - low.astype(np.float32))
        patch = cv2.warpAffine(picture, matrix, tuple((high - low).tolist()), borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round(goal - low).astype(np.int32), 1)
        area = made[low[1]:high[1], low[0]:high[0]]
        area[mask == 1] = patch[mask == 1]
    return made


# {fault: (steps, function(picture, face, step), the field of people.advice.Condition that shows it)}
FAULTS = {
    "width in pixels": ((112, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 16), smaller, "width"),
    "blur in % of the width": ((0.5, 1, 1.5, 2, 2.5, 3, 4, 6), blurred, "sharpness"),
    "turned further by degrees": ((5, 10, 15, 20, 25, 30, 40, 50), turned, "yaw"),
    "cut off at a side, %": ((10, 20, 25, 30, 35, 40, 50), functools.partial(cut, "left"), "outside"),
    "cut off at the forehead, %": ((10, 20, 25, 30, 35, 40, 50), functools.partial(cut, "top"), "outside"),
    "cut off at the chin, %": ((10, 20, 25, 30, 35, 40, 50), functools.partial(cut, "bottom"), "outside"),
    "grey levels divided by": ((2, 4, 8, 12, 16, 24, 32), darker, "brightness"),
    "grey levels times": ((1.25, 1.5, 1.75, 2, 2.5, 3, 4), brighter, "burnt"),
    "room around the box, %": ((100, 50, 25, 10, 0, -5, -10, -15, -20), framed, "size"),
}
