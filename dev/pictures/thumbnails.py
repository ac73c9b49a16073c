"""Composes the templates' thumbnails from the people of tests/people: .dev/venv/bin/python dev/pictures/thumbnails.py."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))
from utils import paint_keypoints  # noqa: E402 - the pack's, which imports without ComfyUI

PEOPLE = CHECKOUT / "tests" / "people"
SIDE, GAP = 512, 6
BLUE, ORANGE, GREEN = (0, 114, 178), (230, 159, 0), (60, 200, 120)
TRUTH = json.loads((PEOPLE / "truth.json").read_text())
# a body of OpenPose: its joints in pixels, and its limbs
JOINTS = [(256, 165), (256, 95), (196, 180), (160, 260), (190, 335), (316, 180), (360, 250), (395, 330), (218, 320), (205, 405),
          (200, 495), (294, 320), (312, 405), (325, 495)]
BONES = [(0, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (0, 8), (8, 9), (9, 10), (0, 11), (11, 12), (12, 13), (0, 1)]
FACE = [(232, 70), (280, 70), (256, 95), (238, 120), (274, 120)]


def photo(name, side=SIDE):
    """Returns a picture of tests/people, RGB [side, side, 3]."""
    image = cv2.imread(str(PEOPLE / f"{name}.jpg"))[..., ::-1]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC)


def points(name):
    """Returns the five points [5, 2] of each face of a picture, in pixels of the file."""
    return [np.array(person["points"]) for person in TRUTH[f"{name}.jpg"]]


def drawing(faces, side=SIDE):
    """Returns the pack's drawing [side, side, 3] of faces' points [5, 2]."""
    canvas = np.zeros((side, side, 3), np.uint8)
    for face in faces:
        paint_keypoints(canvas, face)
    return canvas


def drawn(name, side=SIDE):
    """Returns the drawing of a square picture of tests/people."""
    return drawing([face * side / cv2.imread(str(PEOPLE / f"{name}.jpg")).shape[0] for face in points(name)], side)


def over(image, top):
    """Returns a picture under a drawing."""
    return np.where(top.any(axis=-1, keepdims=True), top, image)


def grid(*rows):
    """Returns rows of square pictures as one of SIDE x SIDE, on dark grey."""
    canvas, top = np.full((SIDE, SIDE, 3), 30, np.uint8), 0
    for row in rows:
        side = min((SIDE - GAP * (len(row) - 1)) // len(row), (SIDE - GAP * (len(rows) - 1)) // len(rows))
        left = (SIDE - side * len(row) - GAP * (len(row) - 1)) // 2
        for number, image in enumerate(row):
            x = left + number * (side + GAP)
            canvas[top:top + side, x:x + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        top += side + GAP
    return canvas


def under_masks(left, right):
    """Returns the middles of two pictures beside each other, tinted as under masks."""
    cut = slice(SIDE // 4, SIDE * 3 // 4)
    return np.hstack([half[:, cut] * 0.75 + np.array(colour) * 0.22 for half, colour in ((left, BLUE), (right, ORANGE))])


def numbered():
    """Returns the group with a box and a number at each face."""
    image = cv2.imread(str(PEOPLE / "group.jpg"))[..., ::-1].copy()
    for number, face in enumerate(sorted(points("group"), key=lambda face: face[2, 0])):
        half = 1.5 * np.linalg.norm(face[3:].mean(axis=0) - face[:2].mean(axis=0))
        (left, top), (right, bottom) = (face.mean(axis=0) + [[-half], [half]]).astype(int)
        cv2.rectangle(image, (left, top), (right, bottom), GREEN, 4, cv2.LINE_AA)
        cv2.rectangle(image, (left, top), (left + 44, top + 46), GREEN, -1)
        cv2.putText(image, str(number), (left + 9, top + 36), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (0, 0, 0), 3, cv2.LINE_AA)
    height = round(SIDE * image.shape[0] / image.shape[1])
    above = (SIDE - height) // 2
    image = cv2.resize(image, (SIDE, height), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(image, above, SIDE - height - above, 0, 0, cv2.BORDER_CONSTANT, value=(30, 30, 30))


def placed():
    """Returns two drawn faces on one canvas, each in its frame, above the two people."""
    faces = [points("22_front")[0] * 0.9 + [25, 10], points("05_front")[0] * 0.9 + [265, 40]]
    canvas = drawing(faces)[:SIDE // 2]
    for face in faces:
        (left, top), (right, bottom) = (face.min(axis=0) - 22).astype(int), (face.max(axis=0) + 22).astype(int)
        cv2.rectangle(canvas, (left, top), (right, bottom), (255, 255, 255), 2, cv2.LINE_AA)
    return np.vstack([canvas, np.hstack([photo("22_front", SIDE // 2), photo("05_front", SIDE // 2)])])


def denoised():
    """Returns a portrait in eight strips, the first of noise and the last without."""
    noise = np.random.default_rng(0).normal(128, 90, (SIDE, SIDE, 3)).clip(0, 255)
    share = ((np.arange(SIDE) * 8 // SIDE) / 7)[:, None] ** 0.6
    return noise * (1 - share) + photo("portrait_14") * share


def sharpened():
    """Returns a face of the group, coarse on the left and clear on the right."""
    x, y = (points("group")[0].mean(axis=0)).astype(int)
    face = cv2.imread(str(PEOPLE / "group.jpg"))[y - 80:y + 80, x - 80:x + 80, ::-1]
    clear = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    coarse = cv2.resize(face, (22, 22), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return np.hstack([coarse[:, :SIDE // 2 - 3], np.full((SIDE, GAP, 3), 255), clear[:, SIDE // 2 + 3:]])


def swapped():
    """Returns a portrait whose face is marked, with the photo of another person in the corner."""
    image = photo("portrait_05")
    centre = (points("portrait_05")[0].mean(axis=0) * SIDE / 768).astype(int).tolist()
    mark = cv2.ellipse(image.copy(), centre, (100, 145), 0, 0, 360, ORANGE, -1)
    image = cv2.addWeighted(image, 0.6, mark, 0.4, 0)
    image[8:188, 8:188] = photo("22_front", 180)
    return cv2.rectangle(image, (8, 8), (188, 188), (255, 255, 255), 4)


def body():
    """Returns a skeleton and a face's points."""
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    for number, (first, second) in enumerate(BONES):
        red, green, blue = cv2.cvtColor(np.uint8([[[number * 170 // len(BONES), 255, 153]]]), cv2.COLOR_HSV2RGB)[0, 0].tolist()
        cv2.line(canvas, JOINTS[first], JOINTS[second], (red, green, blue), 10, cv2.LINE_AA)
    return over(canvas, drawing([np.array(FACE)]))


def swept():
    """Returns pictures of rising likeness above a curve with its best value marked."""
    canvas, places = np.full((SIDE, SIDE, 3), 245, np.uint8), [(65, 450), (192, 370), (319, 300), (446, 345)]
    for row in range(2):
        for column, strength in enumerate((0.35, 0.65, 1.0, 0.8)):
            image = photo(("22_front", "22_left", "22_right")[(column + row) % 3], 122)
            x, y = 4 + column * 127, 4 + row * 127
            canvas[y:y + 122, x:x + 122] = image * strength + np.array([200, 150, 110]) * (1 - strength)
    cv2.polylines(canvas, [np.array(places)], False, BLUE, 5, cv2.LINE_AA)
    for place in places:
        cv2.circle(canvas, place, 12, ORANGE if place == places[2] else BLUE, -1, cv2.LINE_AA)
    return cv2.line(canvas, (20, 490), (492, 490), (120, 120, 120), 2)


front, left, right = (photo(f"22_{pose}") for pose in ("front", "left", "right"))
THUMBNAILS = {
    "01 Portrait": photo("portrait_22"),
    "02 Several photos of one person": grid((front, left, right), (photo("portrait_22"),)),
    "03 Pose from another photo": grid((front, over(photo("08_left"), drawn("08_left"))), (drawn("08_left"), left)),
    "04 Turn the head": grid((photo("18_left"), drawn("18_left")), (photo("18_right"), drawn("18_right"))),
    "05 Likeness without pose": grid((photo("07_front"),),
                                     (photo("07_left"), photo("07_right")[64:448, 64:448], photo("07_right"))),
    "06 Lightning in eight steps": denoised(),
    "07 Two people": under_masks(photo("portrait_22"), photo("portrait_05")),
    "08 Two people placed by hand": placed(),
    "09 Two people, each with a text": under_masks(photo("portrait_18"), photo("portrait_14")),
    "10 Group picture with everybody": numbered(),
    "11 Small face in a second pass": sharpened(),
    "12 Face swap into a picture": swapped(),
    "13 Full body": body(),
    "14 My person": grid((photo("portrait_14"),), tuple(photo(f"14_{pose}") for pose in ("left", "front", "right"))),
    "15 Find the weight": swept(),
}

for name, image in THUMBNAILS.items():
    file = CHECKOUT / "example_workflows" / f"{name}.jpg"
    cv2.imwrite(str(file), image.round().astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
