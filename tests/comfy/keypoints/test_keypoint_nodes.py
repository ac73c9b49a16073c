"""The keypoint nodes as a workflow calls them, and drawings that reach the Apply nodes."""

import json

import instantid_swift
import numpy as np
import pytest
import torch
from instantid_swift.keypoints import nodes as keypoint_nodes
from instantid_swift.keypoints.keypoints import from_json
from instantid_swift.utils import InstantIDError, is_keypoint_drawing
from oracle import cases
from oracle import fixtures as fx


@pytest.fixture(scope="module")
def call():
    return lambda name, **inputs: cases.call(instantid_swift.NODE_CLASS_MAPPINGS, name, **inputs)


def test_a_detected_face_is_drawn_as_by_the_preprocessor(call, world):
    """To the bit, and in the same memory layout, which the ControlNet's last bits depend on."""
    photo = fx.portrait("a")
    preprocessed, = call("FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=photo)
    keypoints, text = call("InstantIDKeypoints", insightface=world.analysis, image=photo)
    drawn, = call("InstantIDDrawKeypoints", keypoints=keypoints)
    assert torch.equal(drawn, preprocessed) and drawn.stride() == preprocessed.stride() and drawn.dtype == preprocessed.dtype
    assert json.loads(text)["width"] == photo.shape[2] and from_json(text).faces[0].points == pytest.approx(
        keypoints.faces[0].points, abs=1e-3)


def test_all_faces_come_in_the_order_of_the_options(call, world):
    options, = call("InstantIDOptions", face_order="left to right", face_index=1, no_face="skip", small_faces=False,
                    blocks="as original", block_weights="")
    every, _ = call("InstantIDKeypoints", insightface=world.analysis, image=fx.photo(), faces="all", options=options)
    second, _ = call("InstantIDKeypoints", insightface=world.analysis, image=fx.photo(), options=options)
    middles = [face.points[:, 0].mean() for face in every.faces]
    assert len(middles) == 6 and middles == sorted(middles)
    assert np.array_equal(every.faces[1].points, second.faces[0].points)


def test_a_drawing_is_not_searched_for_faces(counted, call, world):
    """A drawing of one face or of several goes to IdentityNet as it is; a photo is still looked at."""
    analysis, detector, _ = counted
    one, _ = call("InstantIDKeypoints", insightface=analysis, image=fx.portrait("b"))
    both, = call("InstantIDJoinKeypoints", first=one, second=call("InstantIDTurnHead", yaw=20.0, pitch=0.0, roll=0.0)[0])
    nodes = instantid_swift.NODE_CLASS_MAPPINGS
    cases.advanced(nodes, world, insightface=analysis, image=fx.portrait("a"))
    before = detector.runs
    for keypoints in (one, both):
        drawing, = call("InstantIDDrawKeypoints", keypoints=keypoints)
        _, positive, _ = cases.advanced(nodes, world, insightface=analysis, image=fx.portrait("a"), image_kps=drawing)
        hint = positive[0][1]["control"].cond_hint_original
        assert torch.equal(hint.movedim(1, -1), drawing) and detector.runs == before
    cases.advanced(nodes, world, insightface=analysis, image=fx.portrait("a"), image_kps=fx.portrait("d"))
    assert detector.runs > before


def test_keypoints_are_drawn_wherever_a_drawing_is_taken(call, world):
    keypoints, = call("InstantIDTurnHead", yaw=20.0, pitch=0.0, roll=0.0, width=128, height=96)
    drawing, = call("InstantIDDrawKeypoints", keypoints=keypoints)
    photo = {"instantid": world.instantid, "insightface": world.analysis, "image": fx.portrait("a"), "model": world.model}
    prompts = {"positive": world.positive, "negative": world.negative, "control_net": world.net}
    person = call("InstantIDPerson", insightface=world.analysis, image=photo["image"])["result"][0]
    part = {"start_at": 0.0, "end_at": 1.0}
    _, embeds = call("InstantIDAttentionPatch", **photo, weight=0.8, **part)
    applied = {"instantid": world.instantid, "model": world.model}
    for name, inputs in {"ApplyInstantID": {**photo, **part}, "ApplyInstantIDAdvanced": {**photo, **part},
                         "ApplyInstantIDControlNet": {"face_embeds": embeds, "strength": 0.8, **part},
                         "ApplyInstantIDPerson": {**applied, "person": person},
                         "ApplyInstantIDPeople": {**applied, "people": call("InstantIDPeople", person=person)[0]}}.items():
        *_, positive, _ = call(name, **inputs, **prompts, image_kps=keypoints)
        assert torch.equal(positive[0][1]["control"].cond_hint_original.movedim(1, -1), drawing), name


def test_what_counts_as_a_drawing(call):
    head, = call("InstantIDTurnHead", yaw=65.0, pitch=10.0, roll=5.0, width=300, height=200)
    drawing, = call("InstantIDDrawKeypoints", keypoints=head, opacity=0.6)
    assert is_keypoint_drawing(drawing) and is_keypoint_drawing(torch.zeros(2, 40, 40, 3))
    speck = drawing.clone()
    speck[0, 7, 9] = torch.tensor([0.5, 0.5, 0.5])
    assert not any(map(is_keypoint_drawing, (speck, fx.portrait("a"), torch.full((1, 9, 9, 3), float("nan")),
                                             torch.cat([drawing, speck]), drawing[..., :1], -drawing)))


def test_the_editor_shows_what_it_began_with_and_returns_its_state(call):
    first = call("InstantIDEditKeypoints", width=640, height=480)
    assert json.loads(first["ui"]["instantid_begun_with"][0]) == json.loads(first["result"][2])
    given, = call("InstantIDTurnHead", yaw=0.0, pitch=0.0, roll=0.0, width=1280, height=960)
    scaled = call("InstantIDEditKeypoints", width=640, height=480, keypoints=given)["result"][0]
    assert scaled.faces[0].points == pytest.approx(given.faces[0].points / 2)
    state = json.dumps({**json.loads(first["result"][2]), "array": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]})
    edited, drawing, text = call("InstantIDEditKeypoints", width=640, height=480, state=state, keypoints=given)["result"]
    assert edited.faces[0].points.tolist() == json.loads(state)["array"] and json.loads(text) == json.loads(state)
    assert drawing.shape == (1, 480, 640, 3)


def test_a_bad_state_is_refused_when_it_is_queued():
    editor = instantid_swift.NODE_CLASS_MAPPINGS["InstantIDEditKeypoints"]
    assert all(editor.VALIDATE_INPUTS(state=state) is True for state in ("", " ", None)) and editor.VALIDATE_INPUTS() is True
    assert "cannot be read" in editor.VALIDATE_INPUTS(state="{")


@pytest.mark.newest
def test_keypoints_far_away_from_the_picture_are_refused(call):
    head, = call("InstantIDTurnHead", yaw=0.0, pitch=0.0, roll=0.0)
    with pytest.raises(InstantIDError, match="pictures away from the picture of 1024x1024 pixels. Move it closer."):
        call("InstantIDPlaceKeypoints", keypoints=head, move_x=16000.0)


def test_placing_with_a_box_and_a_mask(call):
    head, = call("InstantIDTurnHead", yaw=0.0, pitch=0.0, roll=0.0, width=400, height=400)
    mask = torch.zeros(1, 40, 40)
    mask[:, 10:30, 20:40] = 1
    by_mask, = call("InstantIDPlaceKeypoints", keypoints=head, mask=mask)
    by_box, = call("InstantIDPlaceKeypoints", keypoints=head, box={"x": 200, "y": 100, "width": 200, "height": 200})
    assert np.array_equal(by_mask.faces[0].points, by_box.faces[0].points)


def test_the_editors_questions_are_answered(call):
    text = keypoint_nodes.edited_state({"width": 300, "height": 200})
    turned = from_json(keypoint_nodes.edited_state({"state": text, "face": 0, "yaw": 20, "pitch": 0, "roll": 0}))
    expected, = call("InstantIDTurnHead", yaw=20.0, pitch=0.0, roll=0.0, width=300, height=200)
    assert turned.faces[0].points == pytest.approx(expected.faces[0].points, abs=0.01)
    turned = {"state": text, "face": 0, "yaw": 0, "pitch": 0, "roll": 0}
    assert len(from_json(keypoint_nodes.edited_state({**turned, "face": -1})).faces) == 1


@pytest.mark.newest
def test_comfyuis_own_poses_keep_their_sides(call):
    """SDPose's network counts as COCO does, the person's left eye before the right one; ComfyUI makes OpenPose's JSON of it."""
    from comfy_extras.nodes_sdpose import _to_openpose_frames
    five = np.array([[200, 150], [260, 150], [230, 190], [210, 220], [250, 220]], np.float32)
    points, scores = np.zeros((2, 133, 2), np.float32), np.full((2, 133), 0.1, np.float32)
    points[:, [2, 1, 0]], scores[:, [0, 1, 2]] = five[:3], 0.9
    points[1, 23 + np.arange(36, 42)], points[1, 23 + np.arange(42, 48)] = five[0], five[1]
    points[1, 23 + np.array([30, 48, 54])] = five[2:]
    points[1], scores[1, 23:91] = points[1] + [200, 0], 0.8
    keypoints, = call("InstantIDKeypointsFromPose", pose=_to_openpose_frames([points], [scores], 768, 512))
    body, face = keypoints.faces
    assert (keypoints.width, keypoints.height) == (512, 768)
    np.testing.assert_allclose(body.points[:3], five[:3])
    np.testing.assert_allclose(face.points, five + [200, 0], atol=1e-3)
    drawn, = call("InstantIDDrawKeypoints", keypoints=keypoints)
    assert is_keypoint_drawing(drawn) and tuple(drawn[0, 150, 200].tolist()) == (1, 0, 0)
