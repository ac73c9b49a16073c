"""People who do not exist, in pictures whose truth is known: points, turns, likeness, the photo that is somebody else's."""

import cv2
import numpy as np
import pytest
import truth
from conftest import CHECKOUT
from instantid_swift import faces
from instantid_swift.likeness import measure
from instantid_swift.likeness.sweep import Scores, parse_cells
from photos import person_photo
from truth import EVERYONE, FRONT, TURNED

FOLDER = CHECKOUT / "tests" / "people"


@pytest.fixture(scope="module")
def seen(ours):
    return truth.look(ours)


def test_each_picture_has_its_truth_and_its_licence():
    assert set(truth.TRUTH) == {path.name for path in FOLDER.glob("*.jpg")}
    for name, people in truth.TRUTH.items():
        height, width = cv2.imread(str(FOLDER / name)).shape[:2]
        for person in people:
            points = np.array(person["points"])
            assert person["licence"] == "CC0-1.0" and points.shape == (5, 2)
            assert (points > 0).all() and (points < [width, height]).all()
    assert len({person["person"] for person in truth.TRUTH["group.jpg"]}) == 6


def test_a_picture_made_again_is_the_one_that_is_shipped():
    from people import studio
    picture, people = studio.picture(*studio.shipped()["07_left.jpg"], samples=16)
    shipped = cv2.imread(str(FOLDER / "07_left.jpg"))[..., ::-1].astype(float)
    assert abs(shipped - picture).mean() < 5, "levels of 255; few samples are noisy"
    assert np.abs(np.array(people[0]["points"]) - truth.true_points(7, "left")).max() < 0.1
    assert people[0]["yaw"] == truth.true_angles(7, "left")[0]


def test_the_detectors_points_are_the_true_ones(seen):
    errors = truth.point_errors(seen)
    assert np.median(errors) < 0.08 and errors.max() < 0.35, errors.max(axis=0)


def test_all_six_of_the_group_are_found_at_their_points(ours):
    found, = faces.Photos(ours, person_photo("group")).found
    assert len(found) == 6
    for person in truth.TRUTH["group.jpg"]:
        points = np.array(person["points"])
        nearest = min(np.linalg.norm(face.points - points, axis=1).max() for face in found)
        assert nearest < 0.35 * np.linalg.norm(points[1] - points[0])


@pytest.mark.parametrize("pose", TURNED)
@pytest.mark.parametrize("number", EVERYONE)
def test_the_mean_head_turned_by_the_true_angles_is_nearer_to_the_true_points(number, pose):
    turned, straight, other_way = truth.head_errors()[number, pose]
    assert turned < straight < other_way


def test_a_photos_points_turned_by_the_true_angles_are_mostly_nearer_to_the_true_points(seen):
    errors = np.array(list(truth.turned_photo_errors(seen).values()))
    assert (errors[:, 0] < errors[:, 1]).mean() > 0.8 and errors[:, 0].mean() < 0.09


def test_a_person_is_more_like_themselves_than_like_anybody_else(seen):
    for share, least, _ in truth.ranks(seen).values():
        assert share == 1 and least > 0.05


def test_robust_blend_leaves_out_the_photo_of_somebody_else(seen):
    """Of three photos of a person and one of another. Where these two are too like each other it leaves out none."""
    left_out = truth.left_out(seen)
    assert set(left_out) <= {(1,), ()} and left_out.count((1,)) > 0.85 * len(left_out)


def test_a_sweep_finds_the_value_whose_pictures_show_the_person(seen):
    cells = parse_cells("ip_weight", "0.2, 0.8, 1.4", "1, 2")
    shown = {0.2: (5, 6), 0.8: (4, 4), 1.4: (4, 7)}  # people on the pictures of each value
    known = measure.reference_of(seen[4, FRONT].embedding[None]).direction
    scores = Scores(cells, {(value, seed): [measure.cosine(seen[who, pose].embedding, known)] for value in cells.values
                            for seed, who, pose in zip(cells.seeds, shown[value], TURNED, strict=True)})
    assert scores.best == 0.8
