"""Keypoints of a pose: the five points of each person in a POSE_KEYPOINT or FACE_LANDMARKS value of other nodes.

POSE_KEYPOINT is OpenPose's JSON, FACE_LANDMARKS ComfyUI's MediaPipe mesh. Both count sides from the person, keypoints from the
picture: the right eye of somebody who faces the viewer is the left one here.
"""

import numpy as np

from ..utils import NOSE, InstantIDError
from .head import complete_face
from .keypoints import QUOTED, KeypointFace, Keypoints, usable_keypoints

# The rows of each of the five points. Of several groups the first one that is given counts, with the mean of its rows.
FACE_68 = (((68,), range(36, 42)), ((69,), range(42, 48)), ((30,),), ((48,),), ((54,),))  # rows 68 and 69: the pupils
BODY_18 = (((14,),), ((15,),), ((0,),), (), ())
BODY_25 = (((15,),), ((16,),), ((0,),), (), ())
MESH = (((468,),), ((473,),), ((1,),), ((61,),), ((291,),))  # rows 468 and 473: the irises
MOST_NORMALISED = 2.0  # largest coordinate of a frame whose coordinates are parts of the canvas and not pixels
FEWEST = 2             # of both eyes and the nose, which place a face


def keypoints_of_pose(pose, least_confidence=0.0):
    """Returns the `Keypoints` of everybody in the first frame of a pose, from left to right, at the size of its canvas.

    pose: the value of a POSE_KEYPOINT or FACE_LANDMARKS link. Points of confidence 0, or below least_confidence, get the
    opacity 0. People of whom fewer than two of eyes and nose are known are left out. InstantIDError if the pose cannot be read
    or nobody is left.
    """
    try:
        frame = pose[0] if isinstance(pose, list | tuple) else pose
        if "frames" in frame:
            height, width = map(int, frame["image_size"])
            faces = [_five(_table(face["landmarks_xy"], 2), MESH) for face in frame["frames"][0]]
        else:
            width, height = int(frame["canvas_width"]), int(frame["canvas_height"])
            faces = [_face_of_person(person, least_confidence) for person in frame["people"]]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InstantIDError(f"The pose {pose!r:.{QUOTED}} cannot be read as OpenPose's JSON or as face landmarks. Connect a "
                             "node that finds poses, such as SDPose Keypoint Extractor or DWPose Estimator.") from error
    faces = [face for face in faces if np.count_nonzero(face[:NOSE + 1, 2]) >= FEWEST]
    if not faces:
        raise InstantIDError("The pose shows no face: both eyes, or one eye and the nose, must be known of somebody. Use a "
                             "picture in which a face is visible, or lower least_confidence.")
    largest = max(np.abs(face[face[:, 2] > 0, :2]).max() for face in faces)
    unit = np.array([width, height]) if largest <= MOST_NORMALISED else 1.0
    made = [KeypointFace(complete_face(face[:, :2] * unit, face[:, 2] > 0), tuple(face[:, 3].tolist())) for face in faces]
    return usable_keypoints(Keypoints(width, height, tuple(sorted(made, key=lambda face: face.points[:, 0].mean()))))


def _face_of_person(person, least_confidence):
    """Returns a person's five points as `_five`: of the face, else eyes and nose of the body."""
    face = _five(_table(person.get("face_keypoints_2d")), FACE_68, least_confidence)
    body = _table(person.get("pose_keypoints_2d"))
    if face[NOSE:, 2].any() or not len(body):  # the pupils alone may be the body's
        return face
    face = _five(body, BODY_25 if len(body) == 25 else BODY_18, least_confidence)
    face[NOSE + 1:, 3] = face[:NOSE, 3]  # the mouth is estimated, on the sides whose eyes are visible
    return face


def _table(values, columns=3):
    """Returns numbers as rows [n, columns]; none for None, as some nodes say that a part was not looked for."""
    return np.array([] if values is None else values, np.float64).reshape(-1, columns)


def _five(table, groups, least_confidence=0.0):
    """Returns [5, 4]: x, y, whether the point is known, and its opacity; of rows x, y and, where they have it, confidence."""
    five = np.zeros((5, 4))
    for number, alternatives in enumerate(groups):
        for rows in alternatives:
            given = table[[row for row in rows if row < len(table)]]
            given = given[np.isfinite(given).all(axis=1)]
            if given.shape[1] == 3:
                given = given[(given[:, 2] > 0) & (given[:, 2] >= least_confidence)]
            if len(given):
                five[number] = *given[:, :2].mean(axis=0), 1, 1
                break
    return five
