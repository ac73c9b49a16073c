"""The text form of keypoints: nosiu's form, round trips, and texts that are refused in a sentence."""

import json

import numpy as np
import pytest
from instantid_swift.keypoints import head, place
from instantid_swift.keypoints.json_form import KeypointsError, from_json, to_json, usable_keypoints

ONE = {"width": 640, "height": 480, "array": [[1, 2], [3.5, 4], [5, 6], [7, 8], [9, -10]], "opacities": [1, 0.5, 1, 0, 1]}


def test_one_face_is_read_and_written_as_nosius():
    keypoints = from_json(json.dumps(ONE))
    assert (keypoints.width, keypoints.height) == (640, 480)
    assert keypoints.faces[0].points.tolist() == ONE["array"] and list(keypoints.faces[0].opacities) == ONE["opacities"]
    assert json.loads(to_json(keypoints)) == ONE


def test_several_faces_are_a_list():
    both = place.joined([from_json(json.dumps(ONE)), head.turned_head(640, 480, 0.5, 0.5, 0.3, 70, 0, 0)])
    again = from_json(to_json(both))
    assert isinstance(json.loads(to_json(both)), list) and len(again.faces) == 2
    for old, new in zip(both.faces, again.faces, strict=True):
        assert np.abs(old.points - new.points).max() <= 5e-4 and new.opacities == pytest.approx(old.opacities, abs=5e-4)
    assert to_json(again) == to_json(both)


def test_opacities_may_be_missing():
    assert from_json(json.dumps({**ONE, "opacities": [1] * 5})).faces[0].opacities == from_json(
        json.dumps({key: value for key, value in ONE.items() if key != "opacities"})).faces[0].opacities


REFUSED = {
    "": "cannot be read as JSON", "{": "cannot be read as JSON", "[" * 5000: "cannot be read as JSON",
    "[]": "hold 0 faces", "7": "must be an object", "[[1]]": "Face 0 of the keypoints must be an object",
    json.dumps([ONE] * 65): "hold 65 faces", json.dumps([ONE] * 10000): "characters; 100000 are the most",
    json.dumps([ONE, {**ONE, "width": 99}]): "different sizes",
    json.dumps({**ONE, "width": 0}): "width must be a whole number", json.dumps({**ONE, "width": "x"}): "width must be",
    json.dumps({**ONE, "height": 1.5}): "height must be", json.dumps({**ONE, "height": 10**30}): "height must be",
    json.dumps({**ONE, "width": True}): "width must be", json.dumps({**ONE, "array": ONE["array"][:4]}): "five points",
    json.dumps({**ONE, "array": [[1, 2, 3]] * 5}): "five points", json.dumps({**ONE, "array": "abcde"}): "five points",
    json.dumps({**ONE, "array": [[float("nan"), 1]] * 5}): "finite numbers",
    json.dumps({**ONE, "array": [[float("inf"), 1]] * 5}): "finite numbers",
    json.dumps({**ONE, "array": [[10**400, 1]] * 5}): "finite numbers",
    json.dumps({**ONE, "array": [[640 * 12, 1]] * 5}): "away from the picture",
    json.dumps({**ONE, "opacities": [1, 1]}): "opacities must be five", json.dumps({**ONE, "opacities": [2] * 5}): "opacities",
    json.dumps({**ONE, "opacities": [float("nan")] * 5}): "opacities",
}


@pytest.mark.parametrize("text, message", REFUSED.items(), ids=[f"{i}" for i in range(len(REFUSED))])
def test_a_bad_text_is_refused_in_a_sentence(text, message):
    with pytest.raises(KeypointsError, match=message) as error:
        from_json(text)
    assert len(str(error.value)) < 500 and str(error.value).startswith(("The keypoints", "Face", "The faces"))


FACE = from_json(json.dumps(ONE))


@pytest.mark.parametrize("given, message", [
    ("a text", "Keypoints were expected, and this is 'a text'"), (None, "Keypoints were expected, and this is None"),
    (FACE._replace(faces=()), "hold 0 faces"), (FACE._replace(faces=FACE.faces * 10000), "hold 10000 faces"),
    (place.moved(FACE, float("nan"), 0), "the point"), (place.scaled(FACE, 1e30), "the point"),
    (place.moved(FACE, 640 * 11, 0), "more than 10 pictures away from the picture of 640x480 pixels"),
    (FACE._replace(faces=(*FACE.faces, *place.moved(FACE, 0, -480 * 11).faces)), "Face 1 of the keypoints: the point")])
def test_keypoints_that_cannot_be_drawn_are_refused_in_a_sentence(given, message):
    with pytest.raises(KeypointsError, match=message):
        usable_keypoints(given)
    assert usable_keypoints(FACE) is FACE
