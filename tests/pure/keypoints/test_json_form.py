"""The text form of keypoints: nosiu's form, round trips, and texts that are refused in a sentence."""

import json

import numpy as np
import pytest
from instantid_swift.keypoints import head, place
from instantid_swift.keypoints.keypoints import from_json, to_json, usable_keypoints
from instantid_swift.utils import InstantIDError

ONE = {"width": 640, "height": 480, "array": [[1, 2], [3.5, 4], [5, 6], [7, 8], [9, -10]], "opacities": [1, 0.5, 1, 0, 1]}


def test_one_face_is_read_and_written_as_nosius():
    keypoints = from_json(json.dumps(ONE))
    assert (keypoints.width, keypoints.height) == (640, 480)
    assert keypoints.faces[0].points.tolist() == ONE["array"] and list(keypoints.faces[0].opacities) == ONE["opacities"]
    assert json.loads(to_json(keypoints)) == ONE
    del (without := dict(ONE))["opacities"]
    assert from_json(json.dumps(without)).faces[0].opacities == (1, 1, 1, 1, 1)


def test_several_faces_are_a_list():
    both = place.joined([from_json(json.dumps(ONE)), head.turned_head(640, 480, 0.5, 0.5, 0.3, 70, 0, 0)])
    again = from_json(to_json(both))
    assert isinstance(json.loads(to_json(both)), list) and len(again.faces) == 2
    for old, new in zip(both.faces, again.faces, strict=True):
        assert np.abs(old.points - new.points).max() <= 5e-4 and new.opacities == pytest.approx(old.opacities, abs=5e-4)
    assert to_json(again) == to_json(both)


REFUSED = {
    "{": "cannot be read", "[]": "cannot be used",
    json.dumps({**ONE, "array": ONE["array"][:4]}): "cannot be read",
    json.dumps({**ONE, "width": 0}): "whole numbers from 1 to 16384",
    json.dumps({**ONE, "opacities": [1, 1]}): "opacities five numbers from 0 to 1",
    json.dumps({**ONE, "array": [[640 * 12, 1]] * 5}): "away from the picture",
    json.dumps([ONE] * 65): "hold 65 faces", json.dumps([ONE, {**ONE, "width": 99}]): "different sizes",
}


@pytest.mark.parametrize("text, message", REFUSED.items(), ids=[f"{i}" for i in range(len(REFUSED))])
def test_a_bad_text_is_refused_in_a_sentence(text, message):
    with pytest.raises(InstantIDError, match=message):
        from_json(text)


FACE = from_json(json.dumps(ONE))


@pytest.mark.parametrize("given, message", [
    ("a text", "Keypoints were expected, and this is 'a text'"), (FACE._replace(faces=()), "hold 0 faces"),
    (place.moved(FACE, 640 * 11, 0), "more than 10 pictures away from the picture of 640x480 pixels")])
def test_keypoints_that_cannot_be_drawn_are_refused_in_a_sentence(given, message):
    with pytest.raises(InstantIDError, match=message):
        usable_keypoints(given)
    assert usable_keypoints(FACE) is FACE
