"""The photos stage: real photos are degraded step by step, and their faces compared with those of the good photos.

The cosine of the embeddings says what a fault costs. people/advice.py warns where it falls below 0.8. The networks are the
small trained ones, or with --networks one's own.
"""

from itertools import pairwise
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks import CHECKOUT, common
from benchmarks.stages.photos import degrade

LIMIT = 0.8          # of the cosine
LEAST_WIDTH = 60     # pixels: photos of smaller faces are not good ones
MOST_YAW = 15        # degrees: nor are those of faces that are turned away
FACE_WIDTH = 160     # pixels to which the faces are brought
MARGIN = 1.1         # heights of its box that are kept on each side of a face's middle
QUICK = 2            # faces


class Good(NamedTuple):
    """A good photo of one face."""
    picture: np.ndarray
    face: object           # faces.photos.Face
    embedding: np.ndarray
    condition: object      # people.advice.Condition


def run(arguments):
    """Returns {fault: {step: figures}} and the figures of the good photos, and prints the tables."""
    from instantid_swift.faces import open_face_analysis
    root = arguments.networks or CHECKOUT / ".dev" / "models" / "insightface"
    analysis = open_face_analysis([str(root)], arguments.provider)
    every = good_photos(analysis)
    every = every[:QUICK] if arguments.quick else every
    figures = {"faces": len(every), "good photos": {
        field: {"least": round(float(min(values)), 3), "median": round(float(median(values)), 3),
                "most": round(float(max(values)), 3)}
        for field, values in zip(every[0].condition._fields, zip(*(good.condition for good in every), strict=True),
                                 strict=True)}, "limits": {}}
    print(f"\n{len(every)} good photos")
    common.print_table(["", "least", "median", "most"], [[name, *row.values()] for name, row in figures["good photos"].items()])
    for fault, (steps, worsen, field) in degrade.FAULTS.items():
        figures[fault] = {str(step): compared(analysis, every, worsen, step, field) for step in steps}
        figures["limits"][fault] = {"shown by": field, "at 0.8": crossing(figures[fault].values(), field)}
        print(f"\n{fault}")
        common.print_table(["", *next(iter(figures[fault].values()))],
                           [[step, *row.values()] for step, row in figures[fault].items()])
    figures["quarter turns"] = quarter_turns(analysis)
    print("\nquarter turns of the group photo")
    common.print_table(["", *next(iter(figures["quarter turns"].values()))],
                       [[step, *row.values()] for step, row in figures["quarter turns"].items()])
    print("\nlimits")
    common.print_table(["", "shown by", "at 0.8"], [[fault, *limit.values()] for fault, limit in figures["limits"].items()])
    return figures


def crossing(rows, field):
    """Returns the field's value where the median cosine falls below LIMIT, between two steps in proportion; None if nowhere."""
    for before, after in pairwise(rows):
        high, low = before["median cosine"], after["median cosine"]
        if high >= LIMIT > low:
            return round(before[field] + (high - LIMIT) / (high - low) * (after[field] - before[field]), 4)
    return None


def look(analysis, picture):
    """Returns (face, embedding, condition) of the largest face of a picture, None where there is none."""
    import torch
    from instantid_swift import caches, faces
    from instantid_swift.people.advice import condition_of
    caches.clear()
    image = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1])).float()[None] / 255
    photos = faces.Photos(analysis, image)
    face, = photos.chosen
    if face is None:
        return None
    embedding = photos.embed(0, face).numpy()
    return face, embedding / np.linalg.norm(embedding), condition_of(photos.pictures[0], face)


def quarter_turns(analysis):
    """Returns {turn: figures} of insightface's group photo: the faces found without and with any_angle, the pictures that the
    detector looked at with it, and the least cosine of a face with the same one upright."""
    import torch
    from insightface.data import get_image
    from instantid_swift import caches, faces
    detector, looks = analysis.det_model.detector, []
    run = detector.session.run
    detector.session.run = lambda names, feed: looks.append(len(next(iter(feed.values())))) or run(names, feed)

    def embeddings(quarter, **search):
        caches.clear()
        looks.clear()
        picture = torch.from_numpy(np.ascontiguousarray(np.rot90(get_image("t1")[:, :, ::-1], quarter))).float()[None] / 255
        photos = faces.Photos(analysis, picture, **search)
        vectors = [photos.embed(0, face) for face in photos.found[0]]
        return torch.nn.functional.normalize(torch.stack(vectors), dim=1) if vectors else torch.zeros(0, 512)
    upright, rows = embeddings(0), {}
    for quarter in range(4):
        without = len(embeddings(quarter))
        found = embeddings(quarter, any_angle=True)
        rows[f"{90 * quarter} degrees"] = {
            "faces without": without, "faces with any_angle": len(found), "looks with any_angle": sum(looks),
            "least cosine": round(float((upright @ found.T).amax(dim=1).min()), 3)}
    detector.session.run = run
    return rows


def good_photos(analysis):
    """Returns the `Good` photos, squares around the large faces of insightface's and scikit-image's, of one face width."""
    import torch
    from insightface.data import get_image
    from instantid_swift import faces
    from skimage import data
    sources = [get_image("t1"), data.astronaut()[:, :, ::-1],
               *(cv2.imread(str(CHECKOUT / ".dev" / "face_models" / f"{name}.jpg")) for name in ("gdp", "yaoming"))]
    good = []
    for source in sources:
        photos = faces.Photos(analysis, torch.from_numpy(np.ascontiguousarray(source[:, :, ::-1])).float()[None] / 255)
        for face in photos.found[0]:
            width, height = face.box[2:] - face.box[:2]
            if width < LEAST_WIDTH:
                continue
            x, y, half = *face.centre, MARGIN * height
            square = source[max(int(y - half), 0):int(y + half), max(int(x - half), 0):int(x + half)]
            scale = FACE_WIDTH / width
            picture = cv2.resize(square, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            found = look(analysis, picture)
            if found[2].yaw <= MOST_YAW:
                good.append(Good(picture, *found))
    return good


def compared(analysis, every, worsen, step, field):
    """Returns the figures of one step: what the field of Condition shows there, and the cosines with the good photos."""
    found = [(good, look(analysis, worsen(good.picture, good.face, step))) for good in every]
    cosines = [float(good.embedding @ now[1]) for good, now in found if now]
    values = [float(getattr(now[2], field)) for _, now in found if now]
    if not cosines:
        return {field: None, "median cosine": None, "least cosine": None, "below 0.8": len(every), "not found": len(every)}
    return {field: round(median(values), 4), "median cosine": round(median(cosines), 3), "least cosine": round(min(cosines), 3),
            "below 0.8": len(every) - sum(cosine >= LIMIT for cosine in cosines), "not found": len(every) - len(cosines)}
