"""The mean head against its sources and against real frontal faces; turning."""

import pickle
from pathlib import Path

import insightface
import numpy as np
import pytest
from insightface.utils import face_align
from instantid_swift import faces
from instantid_swift.keypoints import head, place
from instantid_swift.keypoints.keypoints import KeypointFace, Keypoints
from instantid_swift.utils import InstantIDError
from photos import read_image

FRONTAL = 0.15         # of the eyes' distance that the nose of a frontal face may be off their middle
STATED_ERROR = 0.15    # of the eyes' distance: root mean square over the five points


def test_the_mean_face_is_that_of_its_sources():
    """Width and height are ArcFace's, made symmetric; depth is the mean shape's over the ears."""
    arcface = face_align.arcface_dst.astype(np.float64)
    symmetric = (arcface + (arcface * [-1, 1] + [2 * arcface[:, 0].mean(), 0])[place.MIRRORED]) / 2
    symmetric = (symmetric - symmetric[:2].mean(axis=0)) / np.linalg.norm(symmetric[1] - symmetric[0])
    assert np.abs(symmetric - head.MEAN_FACE[:, :2]).max() < 2e-3
    file = Path(insightface.__file__).parent / "data" / "objects" / "meanshape_68.pkl"
    shape = pickle.loads(file.read_bytes())
    points = np.stack([shape[36:42].mean(0), shape[42:48].mean(0), shape[30], shape[48], shape[54]])
    depth = (points[:, 2] - shape[[0, 16], 2].mean()) / np.linalg.norm(points[1, :2] - points[0, :2])
    assert np.abs(depth - head.MEAN_FACE[:, 2]).max() < 0.02


@pytest.fixture(scope="module")
def detected(ours, face_files):
    """Points of all larger faces on the photos at hand."""
    pictures = [face_files / name for name in ("players.jpg", "gdp.jpg", "yaoming.jpg")]
    pictures.append(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg")
    found = [face for path in pictures for face in faces.Photos(ours, read_image(path)).found[0]]
    return [face for face in found if face.box[2] - face.box[0] >= 60]


def test_the_unturned_head_fits_frontal_faces(detected):
    """Moved, scaled and rolled, the mean face lies on the points of frontal faces."""
    mean = head.MEAN_FACE[:, 0] + 1j * head.MEAN_FACE[:, 1]
    mean -= mean.mean()
    errors = []
    for face in detected:
        points = face.points[:, 0] + 1j * face.points[:, 1]
        eyes = points[1] - points[0]
        if abs(((points[2] - points[:2].mean()) / eyes).real) < FRONTAL:
            best = (mean.conj() * (points - points.mean())).sum() / (abs(mean) ** 2).sum()  # of all similarities
            errors.append(np.sqrt((abs(best * mean + points.mean() - points) ** 2).mean()) / abs(eyes))
    assert len(errors) >= 5
    assert np.median(errors) < 0.1 and max(errors) < STATED_ERROR, errors


def test_the_box_is_about_the_detectors(detected):
    for face in detected:
        left, top, right, bottom = head.face_box(face.points)
        assert (bottom - top) == pytest.approx(face.box[3] - face.box[1], rel=0.2)


def test_turning_by_nothing_changes_nothing_and_roll_is_rotation_in_the_plane(detected):
    angle = np.radians(30)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for face in detected:
        keypoints = Keypoints(1000, 800, (KeypointFace(face.points.astype(np.float64)),))
        turned = head.turn(keypoints, 0, 0, 0).faces[0]
        assert np.abs(turned.points - face.points).max() < 1e-3 and turned.opacities == keypoints.faces[0].opacities
        _, _, origin = head.pose_of(face.points)
        rolled = head.turn(keypoints, 0, 0, 30).faces[0].points
        assert np.abs(rolled - (face.points - origin) @ rotation - origin).max() < 1e-3


@pytest.mark.parametrize("yaw, pitch, roll", [(30, 0, 0), (50, 15, -20), (85, -10, 5)])
def test_the_other_yaw_is_the_mirrored_picture(yaw, pitch, roll):
    one = place.flipped(head.turned_head(1000, 800, 0.3, 0.4, 0.5, yaw, pitch, roll)).faces[0]
    other = head.turned_head(1000, 800, 0.7, 0.4, 0.5, -yaw, pitch, -roll).faces[0]
    assert np.abs(one.points - other.points).max() < 1e-3
    assert one.opacities == pytest.approx(other.opacities)


def test_angles_point_where_they_say():
    straight = head.frontal_head(1000, 1000).faces[0].points
    nose = {name: head.turn(head.frontal_head(1000, 1000), **{"yaw": 0, "pitch": 0, "roll": 0, name: 20}).faces[0].points[2]
            for name in ("yaw", "pitch", "roll")}
    assert nose["yaw"][0] > straight[2][0] + 10     # to the right edge
    assert nose["pitch"][1] < straight[2][1] - 10   # upwards
    assert nose["roll"][0] < straight[2][0] - 10    # clockwise about the eyes: what is below goes left


def test_points_behind_the_face_fade_out():
    profile = head.turned_head(1000, 1000, 0.5, 0.5, 0.5, 80, 0, 0).faces[0].opacities
    assert profile[1] == 0 and profile[0] == 1     # turned to the right edge, the eye on the picture's right is hidden
    assert head.frontal_head(1000, 1000).faces[0].opacities == (1, 1, 1, 1, 1)
    assert all(opacity == 0 for opacity in head.turned_head(9, 9, 0, 0, 1, 180, 0, 0).faces[0].opacities)


def test_points_in_one_place_cannot_be_turned():
    with pytest.raises(InstantIDError, match="cannot be turned"):
        head.turn(Keypoints(10, 10, (KeypointFace(np.ones((5, 2))),)), 10, 0, 0)


def test_a_random_pose_is_its_seeds_and_within_its_ranges():
    ranges = {"x": (0.2, 0.3), "y": (0.4, 0.4), "size": (0.5, 0.6), "yaw": (-30, 30), "pitch": (-5, 5), "roll": (10, 0)}
    one, same, other = (head.random_pose(seed, 640, 480, ranges) for seed in (1, 1, 2))
    assert np.array_equal(one.faces[0].points, same.faces[0].points)
    assert not np.array_equal(one.faces[0].points, other.faces[0].points)
    for seed in range(20):
        _, scale, origin = head.pose_of(head.random_pose(seed, 640, 480, ranges).faces[0].points)
        assert 0.2 * 640 - 1e-6 <= origin[0] <= 0.3 * 640 + 1e-6 and origin[1] == pytest.approx(0.4 * 480)
        assert 0.5 * 480 - 1e-6 <= scale * head.BOX_HEIGHT * head.EYE_TO_MOUTH <= 0.6 * 480 + 1e-6
