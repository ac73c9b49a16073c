"""KEYPOINTS: the five points of one or more faces in a picture of known size, their drawing, and their JSON.

One face is `{"width", "height", "array": [[x, y], five of them], "opacities": [five numbers]}` in widgets, saved workflows and
prompts, the form that nosiu's comfyui-instantId-faceswap reads and writes; several faces are a list of those, all in a picture
of the same size.
"""

import json
from typing import NamedTuple

import numpy as np

from ..utils import ALL_VISIBLE, InstantIDError, paint_keypoints, pictures_to_image

MOST_SIDE = 2048  # pixels of a drawing, which is plenty for points
MOST_FACES = 64
MOST_PIXELS = 16384   # of a picture's side
FARTHEST = 10         # times the picture's size that a point may lie outside of it: OpenCV counts pixels in 32 bits
QUOTED = 80           # characters of a text in a message
EXAMPLE = ('{"width": 1024, "height": 1024, "array": [[430, 400], [594, 400], [512, 494], [444, 589], [580, 589]], '
           '"opacities": [1, 1, 1, 1, 1]}')


class KeypointFace(NamedTuple):
    """The five points of one face."""
    points: np.ndarray             # [5, 2] in pixels: left eye, right eye, nose, left and right corner of the mouth
    opacities: object = ALL_VISIBLE  # five numbers, 0 to 1


class Keypoints(NamedTuple):
    """The faces of one picture, and its size in pixels."""
    width: int
    height: int
    faces: tuple  # of KeypointFace; where several people are meant, in their order


def resized(keypoints, width, height):
    """Returns the keypoints scaled to a picture of another size."""
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
    """Returns keypoints as IdentityNet reads them: IMAGE [1, h, w, 3], in the memory layout of the preprocessor's drawings.

    opacity: of all points, besides their own. most_side: pixels of the longer side, to which a larger picture is shrunk.
    """
    shrunk = most_side / max(keypoints.width, keypoints.height)
    if shrunk < 1:
        keypoints = resized(keypoints, max(round(keypoints.width * shrunk), 1), max(round(keypoints.height * shrunk), 1))
    faded = keypoints._replace(faces=tuple(
        face._replace(opacities=tuple(value * opacity for value in face.opacities)) for face in keypoints.faces))
    return pictures_to_image([draw(faded)])


def drawn(image_kps):
    """Returns what is given as image_kps, an IMAGE, or the drawing of `Keypoints`."""
    return drawing(usable_keypoints(image_kps)) if isinstance(image_kps, Keypoints) else image_kps


def to_json(keypoints):
    """Returns the text of some `Keypoints`: an object for one face, else a list. Coordinates keep three decimals."""
    faces = [{"width": keypoints.width, "height": keypoints.height,
              "array": [[round(float(x), 3), round(float(y), 3)] for x, y in face.points],
              "opacities": [round(float(opacity), 3) for opacity in face.opacities]} for face in keypoints.faces]
    return json.dumps(faces[0] if len(faces) == 1 else faces)


def from_json(text):
    """Returns the `Keypoints` of a text as `to_json` and nosiu's pack write it. InstantIDError if it cannot be read."""
    try:
        found = json.loads(text)
        faces = found if isinstance(found, list) else [found]
        width, height = ({float(face[side]) for face in faces} for side in ("width", "height"))
        read = tuple(KeypointFace(np.array(face["array"], np.float64).reshape(5, 2),
                                  tuple(map(float, face.get("opacities", ALL_VISIBLE)))) for face in faces)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InstantIDError(f"The keypoints cannot be read: {text[:QUOTED]!r} ({type(error).__name__}: {error}). Write them "
                             f"like {EXAMPLE}") from error
    if len(width) > 1 or len(height) > 1:
        raise InstantIDError("The faces of the keypoints are in pictures of different sizes. Give all of them the same width "
                             "and height.")
    if not read or not all(1 <= side <= MOST_PIXELS and side == int(side) for side in (*width, *height)) or not all(
            len(face.opacities) == 5 and all(0 <= opacity <= 1 for opacity in face.opacities) for face in read):
        raise InstantIDError(f"The keypoints {text[:QUOTED]!r} cannot be used: width and height must be whole numbers from 1 "
                             f"to {MOST_PIXELS}, opacities five numbers from 0 to 1. Write them like {EXAMPLE}")
    return usable_keypoints(Keypoints(int(width.pop()), int(height.pop()), read))


def usable_keypoints(keypoints):
    """Returns the given keypoints. InstantIDError if they are not `Keypoints`, hold no face or too many, or if a point is not a
    number or far outside of the picture."""
    if not isinstance(keypoints, Keypoints):
        raise InstantIDError(f"Keypoints were expected, and this is {keypoints!r:.{QUOTED}}. Connect InstantID Find Keypoints, "
                             "or another node that gives keypoints.")
    if not 0 < len(keypoints.faces) <= MOST_FACES:
        raise InstantIDError(f"The keypoints hold {len(keypoints.faces)} faces; they must hold 1 to {MOST_FACES}.")
    size = np.array([keypoints.width, keypoints.height])
    for number, face in enumerate(keypoints.faces):
        for point in np.asarray(face.points):
            if not ((point >= -FARTHEST * size) & (point <= (FARTHEST + 1) * size)).all():  # true of NaN, too
                raise InstantIDError(f"The point {point.tolist()} of face {number} is more than {FARTHEST} pictures away from "
                                     f"the picture of {keypoints.width}x{keypoints.height} pixels. Move it closer.")
    return keypoints
