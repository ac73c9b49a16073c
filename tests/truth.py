"""What the pack says of the people who do not exist, beside the truth: for tests and for the benchmarks."""

import json
from itertools import permutations

import numpy as np
import torch
from conftest import CHECKOUT
from photos import person_photo

TRUTH = json.loads((CHECKOUT / "tests" / "people" / "truth.json").read_text())
EVERYONE = tuple(range(24))
FRONT, *TURNED = POSES = ("front", "left", "right")


def true_points(number, pose):
    """Five points [5, 2] in pixels."""
    return np.array(TRUTH[f"{number:02}_{pose}.jpg"][0]["points"])


def true_angles(number, pose):
    """[yaw, pitch, roll] in degrees."""
    return [TRUTH[f"{number:02}_{pose}.jpg"][0][name] for name in ("yaw", "pitch", "roll")]


def look(analysis):
    """Returns {(number, pose): SeenFace of the only face} of all small pictures; each network looks once at each."""
    from instantid_swift import faces
    from instantid_swift.likeness import measure
    names = [(number, pose) for number in EVERYONE for pose in POSES]
    photos = faces.Photos(analysis, torch.cat([person_photo(f"{number:02}_{pose}") for number, pose in names]))
    assert {len(found) for found in photos.found} == {1}, "every picture shows one face"
    return dict(zip(names, measure.seen_faces(photos), strict=True))


def point_errors(seen):
    """Returns the distances [72, 5] of the detector's points from the true ones, in distances between the eyes."""
    errors = []
    for name, face in seen.items():
        true = true_points(*name)
        errors.append(np.linalg.norm(face.points - true, axis=1) / np.linalg.norm(true_points(name[0], FRONT)[1]
                                                                                  - true_points(name[0], FRONT)[0]))
    return np.array(errors)


def misfit(model, points):
    """Returns the root mean square distance of points [5, 2] from a model [5, 2], scaled and moved to fit, in its units."""
    model, points = model - model.mean(axis=0), points - points.mean(axis=0)
    scale = (model * points).sum() / (model ** 2).sum()
    return np.sqrt(((points - scale * model) ** 2).sum(axis=1).mean()) / scale


def head_errors():
    """Returns {(number, pose): (turned, not turned, turned the other way)} of the turned pictures.

    Each is the misfit of the mean head to the true points, in distances between the eyes. All have the true roll.
    """
    from instantid_swift.keypoints import head
    errors = {}
    for number in EVERYONE:
        for pose in TURNED:
            yaw, pitch, roll = true_angles(number, pose)
            errors[number, pose] = tuple(
                misfit((head.MEAN_FACE @ head.rotation(sign * yaw, sign * pitch, roll).T)[:, :2], true_points(number, pose))
                for sign in (1, 0, -1))
    return errors


def turned_photo_errors(seen):
    """Returns {(number, pose): (turned, not turned)}: how far the front's detected points, turned by head.turn, are off."""
    from instantid_swift.keypoints import head
    from instantid_swift.keypoints.keypoints import KeypointFace, Keypoints
    errors = {}
    for number in EVERYONE:
        front = seen[number, FRONT].points.astype(np.float64)
        unit = np.linalg.norm(front[1] - front[0])
        for pose in TURNED:
            yaw, pitch, roll = true_angles(number, pose)
            turned, rolled = (head.turn(Keypoints(256, 256, (KeypointFace(front),)), *angles).faces[0].points / unit
                              for angles in ((yaw, pitch, roll), (0, 0, roll)))
            true = true_points(number, pose)
            errors[number, pose] = misfit(turned, true), misfit(rolled, true)
    return errors


def recovered_angles():
    """Returns what `head.pose_of` makes of the true points beside the true angles: [72, 2, 2], yaw and pitch in degrees."""
    from instantid_swift.keypoints import head
    rows = []
    for number in EVERYONE:
        for pose in POSES:
            forward = head.pose_of(true_points(number, pose))[0][:, 2]
            found = np.degrees([np.arctan2(forward[0], forward[2]), -np.arcsin(forward[1])])
            true = head.rotation(*true_angles(number, pose))[:, 2]
            rows.append([found, np.degrees([np.arctan2(true[0], true[2]), -np.arcsin(true[1])])])
    return np.array(rows)


def cosines(seen):
    """Returns ([N, N] cosines of all pictures, [N] the people on them)."""
    from instantid_swift.likeness import measure
    directions = measure.unit(np.stack([face.embedding.numpy() for face in seen.values()]))
    return directions @ directions.T, np.array([number for number, _ in seen])


def ranks(seen):
    """Returns {pose: (share of people whose own front is the nearest of all, least and mean margin over the next)}."""
    table, people = cosines(seen)
    pose = np.array([name for _, name in seen])
    front = np.flatnonzero(pose == FRONT)
    found = {}
    for name in TURNED:
        values = table[np.ix_(pose == name, front)]
        own = np.diag(values)
        margin = own - np.where(np.eye(len(own), dtype=bool), -2, values).max(axis=1)
        found[name] = float((margin > 0).mean()), float(margin.min()), float(margin.mean())
    return found


def left_out(seen):
    """Returns what the robust blend leaves out of a person's three photos with one of a stranger, a list over all 552 pairs.

    (1,) is the stranger's photo.
    """
    from instantid_swift.people import blend
    found = []
    for number, stranger in permutations(EVERYONE, 2):
        photos = [seen[number, FRONT], seen[stranger, FRONT], *(seen[number, pose] for pose in TURNED)]
        found.append(blend.outliers(torch.stack([face.embedding for face in photos]).double()))
    return found
