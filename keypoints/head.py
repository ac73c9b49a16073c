"""A head in space: a mean face of five points that can be turned, and a detected face turned like it.

Units are the distance between the eyes. x points to the right edge of the picture, y down, z towards the viewer. The origin is
on the axis through the ears, at the height of the eyes: there a head turns. The projection is parallel (scaled orthographic),
so that a head keeps its size however it is turned.
"""

import numpy as np

from ..utils import InstantIDError
from .keypoints import KeypointFace, Keypoints

# x and y: the five points to which ArcFace aligns faces (insightface.utils.face_align.arcface_dst), the mean of frontal
# detections, made symmetric. z: the same points' depth in insightface's mean shape of 68 points
# (insightface/data/objects/meanshape_68.pkl), over the ears (its points 0 and 16) and by the same distance between the eyes.
MEAN_FACE = np.array([[-0.5, 0.0, 1.183], [0.5, 0.0, 1.183], [0.0, 0.5715, 1.717], [-0.4141, 1.1547, 1.301],
                      [0.4141, 1.1547, 1.301]])
EYE_TO_MOUTH = 1.1547
# The box that InsightFace's detector draws around a face, in distances from the eyes to the mouth
BOX_HEIGHT, BOX_WIDTH, BOX_CENTRE = 2.7, 2.0, 0.3
FITS_AS_WELL = 0.002  # difference of squared misfits that is noise, as a part of the squared spread of the points
FADES_BELOW = 0.25  # cosine of the angle between a point's direction and the viewer; at 0 the point is on the far side


def rotation(yaw, pitch, roll):
    """Returns the matrix [3, 3] that turns a head by angles in degrees.

    yaw: to the right edge of the picture. pitch: upwards. roll: clockwise in the plane of the picture. Pitch comes first, roll
    last.
    """
    (c1, s1), (c2, s2), (c3, s3) = ((np.cos(np.radians(angle)), np.sin(np.radians(angle))) for angle in (yaw, pitch, roll))
    turn = np.array([[c1, 0, s1], [0, 1, 0], [-s1, 0, c1]])
    nod = np.array([[1, 0, 0], [0, c2, -s2], [0, s2, c2]])
    tilt = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return tilt @ turn @ nod


def visibility(matrix):
    """Returns the visibility, 0 to 1, of the five points of a head turned by `matrix`: 0 is the far side."""
    directions = MEAN_FACE - [0.0, EYE_TO_MOUTH / 2, 0.0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.clip((directions @ matrix.T)[:, 2] / FADES_BELOW, 0.0, 1.0)


def turned_head(width, height, x, y, size, yaw, pitch, roll):
    """Returns `Keypoints` of one mean head.

    width, height: of the picture in pixels. x, y: where the point between the eyes is when the head looks at the viewer, as
    parts of width and height. size: the height of the face as a part of the picture's height. yaw, pitch, roll: degrees, as in
    `rotation`.
    """
    matrix = rotation(yaw, pitch, roll)
    scale = size * height / (BOX_HEIGHT * EYE_TO_MOUTH)  # pixels between the eyes
    points = (MEAN_FACE @ matrix.T)[:, :2] * scale + [x * width, y * height]
    return Keypoints(width, height, (KeypointFace(points, tuple(visibility(matrix).tolist())),))


def pose_of(points):
    """Fits the mean face to five points [5, 2] in pixels. Returns (matrix [3, 3], pixels per unit, place of the origin [2]).

    The affine camera by least squares, its two rows made orthonormal by their polar decomposition. InstantIDError if the points
    coincide.
    """
    with_one = np.column_stack((MEAN_FACE, np.ones(len(MEAN_FACE))))
    solution, *_ = np.linalg.lstsq(with_one, np.asarray(points, np.float64), rcond=None)  # (4, 2)
    left, sizes, right = np.linalg.svd(solution[:3].T, full_matrices=False)
    scale = float(sizes.mean())
    if not np.isfinite(scale) or sizes.min() < 1e-6:
        raise InstantIDError("The head cannot be turned, because its keypoints lie on one line or in one place.")
    rows = left @ right
    matrix = np.vstack((rows, np.cross(rows[0], rows[1])))
    origin = np.mean(np.asarray(points) - scale * MEAN_FACE @ rows.T, axis=0)
    return matrix, scale, origin


def turn(keypoints, yaw, pitch, roll):
    """Returns the keypoints with every head turned further, each about its own middle. Angles as in `rotation`.

    The points keep the proportions of their own face: only their depth is the mean face's. Angles of 0 change nothing.
    """
    return keypoints._replace(faces=tuple(_turned(face, rotation(yaw, pitch, roll)) for face in keypoints.faces))


def _turned(face, matrix):
    pose, scale, origin = pose_of(face.points)
    depth = (MEAN_FACE @ pose.T)[:, 2] * scale
    in_space = np.column_stack((face.points - origin, depth))
    before, after = visibility(pose), visibility(matrix @ pose)
    fading = np.where(after < before, after / np.maximum(before, 1e-6), 1.0)
    return KeypointFace((in_space @ matrix.T)[:, :2] + origin, tuple((np.asarray(face.opacities) * fading).tolist()))


def random_pose(seed, width, height, ranges):
    """Returns `Keypoints` of one mean head whose x, y, size, yaw, pitch and roll are drawn evenly from ranges.

    ranges: {name: (low, high)} for those six names, in any order of low and high. The same seed gives the same head everywhere.
    """
    generator = np.random.default_rng(seed)
    drawn = {name: float(low + (high - low) * generator.random()) for name in ("x", "y", "size", "yaw", "pitch", "roll")
             for low, high in [ranges[name]]}
    return turned_head(width, height, **drawn)


def frontal_head(width, height):
    """Returns `Keypoints` of one mean head that looks at the viewer, as in a portrait."""
    return turned_head(width, height, 0.5, 0.4, 0.5, 0.0, 0.0, 0.0)


def face_box(points):
    """Returns an estimate (left, top, right, bottom) of the box that the detector draws around a face with points [5, 2]."""
    eyes, mouth = np.mean(points[:2], axis=0), np.mean(points[3:], axis=0)
    centre, length = eyes + BOX_CENTRE * (mouth - eyes), np.linalg.norm(mouth - eyes)
    half = np.array([BOX_WIDTH, BOX_HEIGHT]) / 2 * length
    return (*(centre - half), *(centre + half))


def complete_face(points, known):
    """Returns five points [5, 2]: the known ones, and for the others those of the mean face, turned and moved to fit them.

    known: five booleans, at least two of them True. Of turns that fit about as well, the least one counts.
    """
    goal = points @ [1, 1j]
    faces = np.array([(MEAN_FACE @ rotation(yaw, 0, 0).T)[:, :2] @ [1, 1j] for yaw in sorted(range(-80, 81, 5), key=abs)])
    middle = goal[known].mean()
    offsets, faces = goal[known] - middle, faces - faces[:, known].mean(axis=1, keepdims=True)
    factors = faces[:, known].conj() @ offsets / (np.abs(faces[:, known]) ** 2).sum(axis=1)  # size and roll of each head
    misfits = (np.abs(factors[:, None] * faces[:, known] - offsets) ** 2).sum(axis=1)
    best = np.flatnonzero(misfits <= misfits.min() + FITS_AS_WELL * (np.abs(offsets) ** 2).sum())[0]
    fitted = factors[best] * faces[best] + middle
    return np.where(known[:, None], points, np.stack((fitted.real, fitted.imag), axis=1))
