"""Advice about photos: what about a face will cost likeness, one sentence for each photo.

The limits stand where the likeness to a good photo falls below 0.8, as docs/PHOTO_ADVICE.md measures it.
"""

from typing import NamedTuple

import numpy as np

from ..keypoints.head import face_box, pose_of
from .person import CROP, crop_face

LEAST_WIDTH = CROP       # pixels: a smaller face is enlarged for the embedder
LEAST_SHARPNESS = 0.005
MOST_YAW = 24.0          # degrees
MOST_OUTSIDE = 0.32
LEAST_BRIGHTNESS = 10.5
MOST_BURNT = 0.38
LEAST_SIZE = 448         # pixels of the detector's frame
BURNT_OUT = 250          # grey level from which a pixel has lost its shades
REMEDY = f"A better photo shows the whole face sharply, from the front, in good light and at least {LEAST_WIDTH} pixels wide."


class Condition(NamedTuple):
    """What can be measured about the face of one photo."""
    width: float       # of the detector's box, in pixels
    sharpness: float   # variance of the aligned face's Laplacian, as a part of the variance of its grey levels
    yaw: float         # degrees between the face and the viewer, from the five points
    outside: float     # part of the face's box, as estimated from the five points, that lies outside of the photo
    brightness: float  # mean grey level of the aligned face, 0 to 255
    burnt: float       # part of the aligned face's pixels that are white
    size: int          # pixels of the frame into which the photo was shrunk for the detector: less than 640 in later passes


def condition_of(picture, face):
    """Returns the `Condition` of a `faces.photos.Face` in a photo, uint8 BGR [h, w, 3]."""
    import cv2
    grey = cv2.cvtColor(crop_face(picture, face.points), cv2.COLOR_RGB2GRAY).astype(np.float32)
    matrix, _, _ = pose_of(face.points)
    height, width = picture.shape[:2]
    left, top, right, bottom = face_box(face.points)
    inside = max(min(right, width) - max(left, 0), 0) * max(min(bottom, height) - max(top, 0), 0)
    return Condition(float(face.box[2] - face.box[0]), float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(grey.var(), 1.0)),
                     abs(float(np.degrees(np.arcsin(matrix[2, 0])))), float(1 - inside / ((right - left) * (bottom - top))),
                     float(grey.mean()), float((grey >= BURNT_OUT).mean()), face.size)


def faults(condition):
    """Returns what about a face will cost likeness, each as the end of a sentence that begins with the face."""
    found = {
        f"is only {int(condition.width)} pixels wide": condition.width < LEAST_WIDTH,
        "is blurred": condition.width >= LEAST_WIDTH and condition.sharpness < LEAST_SHARPNESS,
        f"is turned by {condition.yaw:.0f} degrees": condition.yaw > MOST_YAW,
        "is cut off at the border": condition.outside > MOST_OUTSIDE,
        "is too dark": condition.brightness < LEAST_BRIGHTNESS,
        "is burnt out": condition.burnt > MOST_BURNT,
        "fills the photo so far that it was hard to find": condition.size < LEAST_SIZE}
    return [fault for fault, there in found.items() if there]


def advise(pairs):
    """Returns a sentence for each photo whose face will cost likeness, and one that tells what a better photo is like.

    pairs: (photo as uint8 BGR [h, w, 3], its `faces.photos.Face` or None) each, in the order in which the photos are counted.
    """
    pairs, sentences = list(pairs), []
    for index, (picture, face) in enumerate(pairs):
        if face is not None and (found := faults(condition_of(picture, face))):
            which = f" at index {index}" if len(pairs) > 1 else ""
            listed = ", ".join(found[:-1]) + " and " * (len(found) > 1) + found[-1]
            sentences.append(f"The face in the photo{which} {listed}, which will cost likeness.")
    return [*sentences, REMEDY] if sentences else []
