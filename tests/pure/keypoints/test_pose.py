"""Keypoints of poses: OpenPose's JSON in its several forms, MediaPipe's mesh, and the detector's points on real photos."""

import numpy as np
import pytest
from instantid_swift import faces
from instantid_swift.keypoints import draw
from instantid_swift.keypoints.keypoints import resized
from instantid_swift.keypoints.pose import keypoints_of_pose
from instantid_swift.utils import KEYPOINT_COLOURS, InstantIDError
from messages import one_sentence_of_advice
from oracle import fixtures as fx

FIVE = np.array([[200, 150], [260, 150], [230, 190], [210, 220], [250, 220]], float)  # the picture's left eye first
CANVAS = 512, 768
NOBODY = np.zeros((5, 2))


def rows(points, count, places, confidence=1.0):
    """A flat OpenPose list of `count` rows x, y, confidence, of which those at `places` are known."""
    table = np.zeros((count, 3))
    for place, point in zip(places, points, strict=True):
        table[place] = *point, confidence
    return table.ravel().tolist()


def face_68(five, pupils=False, confidence=1.0):
    """Face points as OpenPose numbers them: eyes of six points around the pupils, nose tip, corners of the mouth."""
    table = np.zeros((70 if pupils else 68, 3))
    ring = np.stack([np.cos(angles := np.arange(6) * np.pi / 3), 0.4 * np.sin(angles)], axis=1)
    size = np.linalg.norm(five[1] - five[0]) / 6
    for first, eye in ((36, five[0]), (42, five[1])):  # the person's right eye has the lower numbers
        table[first:first + 6, :2] = eye + ring * size
    table[[30, 48, 54], :2] = five[2:]
    if pupils:
        table[68:, :2] = five[:2] + [3, 0]  # looks to one side
    table[[*range(36, 48), 30, 48, 54, *range(68, len(table))], 2] = confidence
    return table.ravel().tolist()


def body(five, count=18):
    """A body of 18 or 25 points: nose, and eyes with the person's right one first."""
    eyes = (14, 15) if count == 18 else (15, 16)
    return rows([five[2], five[0], five[1]], count, (0, *eyes))


def frame(*people, size=CANVAS):
    return [{"canvas_width": size[0], "canvas_height": size[1], "people": list(people)}]


def mesh(*five, size=CANVAS):
    """FACE_LANDMARKS of ComfyUI's MediaPipe node."""
    found = []
    for points in five:
        landmarks = np.full((478, 2), 7.0, np.float32)
        landmarks[[468, 473, 1, 61, 291]] = points
        found.append({"landmarks_xy": landmarks, "score": 0.9})
    return {"frames": [found, []], "image_size": size[::-1], "connection_sets": {}}


NORMALISED = frame({"face_keypoints_2d": (np.array(face_68(FIVE)).reshape(-1, 3) / [*CANVAS, 1]).ravel().tolist(),
                    "pose_keypoints_2d": None})


@pytest.mark.parametrize("pose", [
    frame({"face_keypoints_2d": face_68(FIVE), "pose_keypoints_2d": body(NOBODY)}),
    frame({"face_keypoints_2d": face_68(FIVE)})[0], NORMALISED, mesh(FIVE)],
    ids=["68 points", "one frame", "normalised", "mesh"])
def test_the_five_points_of_a_face(pose):
    keypoints = keypoints_of_pose(pose)
    face, = keypoints.faces
    assert (keypoints.width, keypoints.height) == CANVAS
    np.testing.assert_allclose(face.points, FIVE, atol=1e-4)
    assert face.opacities == (1, 1, 1, 1, 1)


def test_pupils_count_before_the_rims_of_the_eyes():
    face, = keypoints_of_pose(frame({"face_keypoints_2d": face_68(FIVE, pupils=True)})).faces
    np.testing.assert_allclose(face.points, FIVE + [[3, 0], [3, 0], [0, 0], [0, 0], [0, 0]])
    table = np.array(face_68(FIVE, pupils=True)).reshape(-1, 3)
    table[68:, 2] = 0
    face, = keypoints_of_pose(frame({"face_keypoints_2d": table.ravel().tolist()})).faces
    np.testing.assert_allclose(face.points, FIVE)


@pytest.mark.parametrize("count", [18, 25])
@pytest.mark.parametrize("nothing", [None, [], face_68(FIVE, confidence=0.0)])
def test_without_points_of_the_face_the_body_counts(count, nothing):
    face, = keypoints_of_pose(frame({"face_keypoints_2d": nothing, "pose_keypoints_2d": body(FIVE, count)})).faces
    np.testing.assert_allclose(face.points[:3], FIVE[:3])
    assert face.opacities == (1, 1, 1, 1, 1)
    eyes, mouth = face.points[:2].mean(axis=0), face.points[3:]
    assert mouth[0, 0] < eyes[0] < mouth[1, 0] and (mouth[:, 1] > FIVE[2, 1]).all()


def test_points_without_confidence_are_left_out():
    table = np.array(face_68(FIVE)).reshape(-1, 3)
    table[48, 2] = 0
    face, = keypoints_of_pose(frame({"face_keypoints_2d": table.ravel().tolist()})).faces
    assert face.opacities == (1, 1, 1, 0, 1)
    np.testing.assert_allclose(face.points[3], FIVE[3], atol=12)  # where the mean face has it
    profile, = keypoints_of_pose(frame({"pose_keypoints_2d": rows([FIVE[2], FIVE[0]], 18, (0, 14))})).faces
    assert profile.opacities == (1, 0, 1, 1, 0)  # nor the corner of the mouth below a hidden eye
    uncertain = frame({"face_keypoints_2d": face_68(FIVE, confidence=0.2)})
    assert keypoints_of_pose(uncertain).faces[0].opacities == (1, 1, 1, 1, 1)
    with pytest.raises(InstantIDError, match="lower least_confidence"):
        keypoints_of_pose(uncertain, least_confidence=0.3)


def test_everybody_with_a_face_comes_from_left_to_right():
    right = {"face_keypoints_2d": face_68(FIVE + [200, 0])}
    left, from_behind = {"pose_keypoints_2d": body(FIVE)}, {"pose_keypoints_2d": rows([[90, 90]], 18, (0,))}
    keypoints = keypoints_of_pose(frame(right, from_behind, left))
    assert [round(face.points[2, 0]) for face in keypoints.faces] == [230, 430]
    assert [round(face.points[2, 0]) for face in keypoints_of_pose(mesh(FIVE + [200, 0], FIVE)).faces] == [230, 430]


def test_the_drawing_is_in_its_place_on_a_canvas_of_another_size():
    for pose in (frame({"face_keypoints_2d": face_68(FIVE)}), NORMALISED):
        drawn = draw(resized(keypoints_of_pose(pose), 1024, 1536))
        assert drawn.shape == (1536, 1024, 3)
        for (x, y), colour in zip(2 * FIVE, KEYPOINT_COLOURS, strict=True):
            assert tuple(drawn[int(y), int(x)]) == colour


@pytest.mark.parametrize("pose", [
    None, [], [{}], "pose", 3.0, frame(), frame({"face_keypoints_2d": [1.0, 2.0]}), [{"people": []}], frame({}),
    frame({"face_keypoints_2d": "a" * 9}), frame(size=(0, 0)), {"frames": [], "image_size": (4, 4)}, {"frames": [[{}]]},
    frame({"face_keypoints_2d": face_68(FIVE * np.nan)}), frame({"face_keypoints_2d": face_68(FIVE * 1e9)})])
def test_a_malformed_pose_is_refused_in_a_sentence(pose):
    with pytest.raises(InstantIDError) as error:
        keypoints_of_pose(pose)
    one_sentence_of_advice(error)


@pytest.fixture(scope="module")
def detected(ours):
    """The detector's points of the faces on the group photo, from left to right, and the photo's size."""
    photos = faces.Photos(ours, fx.photo())
    found = faces.FaceChoice("left to right").sort(photos.found[0], photos.size)
    return [face.points.astype(float) for face in found], photos.size


def test_sides_are_those_of_the_detector_on_real_photos(detected):
    """OpenPose's right eye, the person's, is the one that the detector gives first and IdentityNet knows as the left one."""
    everybody, size = detected
    made = keypoints_of_pose(frame(*({"face_keypoints_2d": face_68(five)} for five in everybody), size=size))
    for face, five in zip(made.faces, everybody, strict=True):
        assert five[0, 0] < five[1, 0] and five[3, 0] < five[4, 0]
        np.testing.assert_allclose(face.points, five, atol=1e-3)


def test_a_mouth_is_estimated_near_the_detectors_on_real_photos(detected):
    everybody, size = detected
    made = keypoints_of_pose(frame(*({"pose_keypoints_2d": body(five)} for five in everybody), size=size))
    for face, five in zip(made.faces, everybody, strict=True):
        length = np.linalg.norm(five[:2].mean(axis=0) - five[3:].mean(axis=0))
        assert np.linalg.norm(face.points[3:] - five[3:], axis=1).max() < 0.4 * length
