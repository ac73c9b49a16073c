"""The pictures of tests/people with their truth, and what thumbnails are composed of. All pictures are RGB, 8 bits.

    .dev/venv/bin/python -m dev.people.studio [NAME ...]        makes them anew (such as 03_left.jpg; default: all)
    .dev/venv/bin/python -m dev.people.studio --sheet FILE      writes a contact sheet of those that are there
"""
import argparse
import json
import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from . import person
from .mesh import Mesh
from .paint import tone
from .rendering import Light
from .sitter import Sitter

CHECKOUT = Path(__file__).resolve().parents[2]
HEADS = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev")) / "heads"
SHIPPED = CHECKOUT / "tests" / "people"
LICENCE = "CC0-1.0"
QUALITY = 78
POSES = ("front", "left", "right")
WALLS = ["aeb6ba", "b9b2a6", "9fb0a8", "a9a5b5", "c2b8ae", "8f9aa6", "b3a79f", "a2ab98"]
PORTRAITS = {5: (-6, 0, 2), 14: (26, -4, 3), 18: (-24, 3, -3), 22: (4, 2, 0)}      # person: yaw, pitch, roll
# number, place of the face in parts of the picture, yaw
GROUP = ((16, 0.17, 0.25, -8), (1, 0.50, 0.24, 3), (2, 0.83, 0.25, 10),
         (12, 0.18, 0.62, 12), (9, 0.51, 0.64, -6), (23, 0.83, 0.62, -12))


@cache
def mesh():
    """Returns MakeHuman's mesh, read once."""
    return Mesh(HEADS)


def sitter(number, expression="calm", hairs=8000):
    """Returns one of the people with an expression of person.EXPRESSIONS."""
    return Sitter(mesh(), person.make(mesh(), number) | {"expression": expression}, hairs)


def wall(colour, width, height):
    """Returns a plain wall in linear RGB [height, width, 3], darker towards the corners."""
    y, x = np.mgrid[:height, :width] / max(height, width) - [[[height]], [[width]]] / np.array(2 * max(height, width))
    return person.linear(colour) * (1.02 - 0.35 * y - 0.9 * (x ** 2 + y ** 2))[..., None]


def compose(drawn, background):
    """Returns 8-bit RGB of a drawing (colour and opacity) over a wall."""
    colour, opacity = drawn
    return (np.clip(colour + tone(background) * (1 - opacity[..., None]), 0, 1) * 255).round().astype(np.uint8)


def pose_of(number, name):
    """Returns (yaw, pitch, roll, expression, light's side) of one of a person's pictures."""
    random = np.random.default_rng([number, POSES.index(name)])
    turn, sign = random.uniform(17, 34), -1 if name == "left" else 1
    expression = list(person.EXPRESSIONS)[(number + POSES.index(name)) % len(person.EXPRESSIONS)]
    if name == "front":
        return 0.0, 0.0, 0.0, "calm", 1 - 2 * (number % 2)
    return sign * turn, random.uniform(-14, 14), random.uniform(-9, 9), expression, sign * (1 - 2 * (number % 3 == 0))


def small(number, name):
    """Returns a picture of 256 pixels, RGB, and its truth."""
    yaw, pitch, roll, expression, side = pose_of(number, name)
    light = Light((-0.55 * side, 0.5, 0.75))
    colour, opacity, points = sitter(number, expression).draw(light, yaw, pitch, roll, side=256, scale=0.30, finer=3)
    return (compose((colour, opacity), wall(WALLS[(number * 3 + len(name)) % len(WALLS)], 256, 256)),
            [truth(number, points, yaw, pitch, roll)])


def portrait(number, side=768):
    """Returns a portrait of one of PORTRAITS, and its truth."""
    yaw, pitch, roll = PORTRAITS[number]
    colour, opacity, points = sitter(number, "friendly", 12000).draw(Light(), yaw, pitch, roll, side=side, scale=0.30)
    return compose((colour, opacity), wall(WALLS[number % len(WALLS)], side, side)), [truth(number, points, yaw, pitch, roll)]


def group(width=960, height=760, side=760):
    """Returns the picture of six people in two rows, and the truth of each."""
    picture, truths = tone(wall(WALLS[5], width, height)), []
    for number, x, y, yaw in GROUP:
        colour, opacity, points = sitter(number, "friendly", 6000).draw(Light(), yaw, side=side, scale=0.14, shift=(0, -0.1))
        left, top = round(x * width - side * 0.5), round(y * height - side * 0.4)
        low, high = (max(-left, 0), max(-top, 0)), (min(side, width - left), min(side, height - top))
        part = picture[top + low[1]:top + high[1], left + low[0]:left + high[0]]
        cut = slice(low[1], high[1]), slice(low[0], high[0])
        part[:] = colour[cut] + part * (1 - opacity[cut][..., None])
        truths.append(truth(number, points + [left, top], yaw, 0.0, 0.0))
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8), truths


def truth(number, points, yaw, pitch, roll):
    """Returns what truth.json says of one person on a picture."""
    return {"person": number, "points": np.round(points, 2).tolist(), "yaw": round(yaw, 2), "pitch": round(pitch, 2),
            "roll": round(roll, 2), "licence": LICENCE}


def shipped():
    """Returns {file name: function that makes picture and truths} of everything in tests/people."""
    makers = {f"{number:02}_{name}.jpg": lambda number=number, name=name: small(number, name)
              for number in range(person.COUNT) for name in POSES}
    makers |= {f"portrait_{number:02}.jpg": lambda number=number: portrait(number) for number in PORTRAITS}
    return makers | {"group.jpg": group}


def encoded(picture):
    """Returns the bytes of a JPEG of an RGB picture."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def write(names):
    """Makes shipped pictures anew, and their entries of truth.json."""
    SHIPPED.mkdir(exist_ok=True)
    file = SHIPPED / "truth.json"
    truths = json.loads(file.read_text()) if file.exists() else {}
    for name in names:
        picture, truths[name] = shipped()[name]()
        (SHIPPED / name).write_bytes(encoded(picture))
        print(name, flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(truths[name])}" for name in shipped() if name in truths]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def sheet(width=8, side=128):
    """Returns a contact sheet, RGB, of the front views of all people."""
    tiles = [cv2.resize(cv2.imread(str(SHIPPED / f"{number:02}_front.jpg")), (side, side), interpolation=cv2.INTER_AREA)
             for number in range(person.COUNT)]
    return np.vstack([np.hstack(tiles[start:start + width]) for start in range(0, len(tiles), width)])[..., ::-1]


def main():
    parser = argparse.ArgumentParser(description="Makes the pictures of tests/people anew.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 03_left.jpg (default: all)")
    parser.add_argument("--sheet", metavar="FILE", help="write a contact sheet, and make no pictures")
    options = parser.parse_args()
    if options.sheet:
        cv2.imwrite(options.sheet, sheet()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    else:
        write(options.names or list(shipped()))


if __name__ == "__main__":
    main()
