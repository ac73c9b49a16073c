"""Keypoints as text: the JSON that widgets, saved workflows and prompts hold.

One face is `{"width", "height", "array": [[x, y], five of them], "opacities": [five numbers]}`, the form that nosiu's
comfyui-instantId-faceswap reads and writes; several faces are a list of those, all in a picture of the same size.
"""

import json
import math

import numpy as np

from .value import ALL_VISIBLE, KeypointFace, Keypoints

POINTS = 5
MOST_CHARACTERS = 100_000
MOST_FACES = 64
MOST_PIXELS = 16384   # of a side
FARTHEST = 10         # times the picture's size that a point may lie outside of it
QUOTED = 80           # characters of a text in a message
EXAMPLE = ('{"width": 1024, "height": 1024, "array": [[430, 400], [594, 400], [512, 494], [444, 589], [580, 589]], '
           '"opacities": [1, 1, 1, 1, 1]}')


class KeypointsError(ValueError):
    """Keypoints cannot be used; the message says what was found and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


def to_json(keypoints):
    """Returns the text of some `Keypoints`: an object for one face, else a list. Coordinates keep three decimals."""
    faces = [{"width": keypoints.width, "height": keypoints.height,
              "array": [[round(float(x), 3), round(float(y), 3)] for x, y in face.points],
              "opacities": [round(float(opacity), 3) for opacity in face.opacities]} for face in keypoints.faces]
    return json.dumps(faces[0] if len(faces) == 1 else faces)


def from_json(text):
    """Returns the `Keypoints` of a text as `to_json` and nosiu's pack write it. KeypointsError if it cannot be read."""
    if len(text) > MOST_CHARACTERS:
        raise KeypointsError(f"The keypoints are a text of {len(text)} characters; {MOST_CHARACTERS} are the most. Make them "
                             "with InstantID Edit Keypoints.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeypointsError(f"The keypoints cannot be read as JSON: {_quoted(text)}. Write them like {EXAMPLE}") from error
    faces = found if isinstance(found, list) else [found]
    _check_number_of(faces)
    read = [_face(face, number if isinstance(found, list) else None) for number, face in enumerate(faces)]
    sizes = sorted({size for size, _ in read})
    if len(sizes) > 1:
        raise KeypointsError(f"The faces of the keypoints are in pictures of different sizes ({_size(sizes[0])} and "
                             f"{_size(sizes[1])}). Give all of them the same width and height.")
    return usable_keypoints(Keypoints(*sizes[0], tuple(face for _, face in read)))


def usable_keypoints(keypoints):
    """Returns keypoints that can be drawn and written: those given. KeypointsError if they are no `Keypoints`, hold no face or
    too many, or if a point is not a number or far outside of the picture."""
    if not isinstance(keypoints, Keypoints):
        raise KeypointsError(f"Keypoints were expected, and this is {keypoints!r:.{QUOTED}}. Connect InstantID Keypoints, or "
                             "another node that gives keypoints.")
    _check_number_of(keypoints.faces)
    size = np.array([keypoints.width, keypoints.height])
    for number, face in enumerate(keypoints.faces):
        for point in np.asarray(face.points):
            if not ((point >= -FARTHEST * size) & (point <= (FARTHEST + 1) * size)).all():  # true of NaN, too
                name = "The keypoints" if len(keypoints.faces) == 1 else f"Face {number} of the keypoints"
                raise KeypointsError(f"{name}: the point {_quoted(point.tolist())} is more than {FARTHEST} pictures away from "
                                     f"the picture of {_size(size)} pixels. Move it closer.")
    return keypoints


def _check_number_of(faces):
    if not 0 < len(faces) <= MOST_FACES:
        raise KeypointsError(f"The keypoints hold {len(faces)} faces; they must hold 1 to {MOST_FACES}.")


def _face(content, number):
    """((width, height), KeypointFace) of one face's object. number: its place in a list, for messages."""
    name = "The keypoints" if number is None else f"Face {number} of the keypoints"
    if not isinstance(content, dict):
        raise KeypointsError(f"{name} must be an object with width, height and array; found {_quoted(content)}. Write them "
                             f"like {EXAMPLE}")
    size = tuple(content.get(side) for side in ("width", "height"))
    for side, value in zip(("width", "height"), size, strict=True):
        if not _is_number(value) or value != int(value) or not 1 <= value <= MOST_PIXELS:
            raise KeypointsError(f"{name}: {side} must be a whole number from 1 to {MOST_PIXELS}; found {_quoted(value)}.")
    points = content.get("array")
    if not isinstance(points, list) or len(points) != POINTS or not all(
            isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points):
        raise KeypointsError(f"{name}: array must hold five points [x, y] (left eye, right eye, nose, left and right corner "
                             f"of the mouth), all of finite numbers; found {_quoted(points)}.")
    opacities = content.get("opacities", list(ALL_VISIBLE))
    if not isinstance(opacities, list) or len(opacities) != POINTS or not all(
            _is_number(opacity) and 0 <= opacity <= 1 for opacity in opacities):
        raise KeypointsError(f"{name}: opacities must be five numbers from 0 to 1; found {_quoted(opacities)}.")
    return (int(size[0]), int(size[1])), KeypointFace(np.array(points, np.float64), tuple(map(float, opacities)))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 and math.isfinite(value)


def _size(size):
    return f"{int(size[0])}x{int(size[1])}"


def _quoted(thing):
    text = thing if isinstance(thing, str) else json.dumps(thing)
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."
