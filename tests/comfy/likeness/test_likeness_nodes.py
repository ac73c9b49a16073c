"""The nodes that look at faces and measure likeness, as ComfyUI calls them."""

import pytest
import torch
from comfy_execution.graph import ExecutionBlocker
from instantid_swift import faces
from instantid_swift.faces import FaceChoice
from instantid_swift.keypoints import place
from instantid_swift.options.nodes import Options
from oracle import cases
from oracle import fixtures as fx
from photos import person_photo

pytestmark = pytest.mark.newest
GREY = torch.full((1, 256, 256, 3), 0.5)


def call(nodes, name, ours, **inputs):
    return cases.call(nodes, name, insightface=ours, **inputs)


def photos(*names):
    return torch.cat([person_photo(name) for name in names])


def test_every_face_of_a_group_is_numbered_in_the_chosen_order(nodes, ours):
    options = Options(choice=FaceChoice("left to right", 2))
    made = call(nodes, "InstantIDFaces", ours, image=fx.photo(), padding=0, options=options)
    preview, count, box, mask = made["result"]
    meant, = faces.Photos(ours, fx.photo(), options.choice).chosen
    assert count == 6 and made["ui"]["images"]
    lines = made["ui"]["text"][0].splitlines()
    assert [line.split()[0] for line in lines[1:7]] == list("012345") and lines[3].endswith("used")
    assert " ".join(lines[8:]).startswith("Face 2 (green) is used. Order: left to right. The face in the photo is only "
                                          f"{int(meant.box[2] - meant.box[0])} pixels wide, which will cost likeness.")
    assert preview.shape == fx.photo().shape and not torch.equal(preview, fx.photo())
    assert mask.shape == preview.shape[:3] and mask.sum() == box["width"] * box["height"]
    left, top, right, bottom = place.corners(box)
    assert left <= meant.box[0] <= left + 1 and bottom - 1 <= meant.box[3] <= bottom
    assert mask[0, int(top) + 1, int(left) + 1] == 1 and mask[0, int(bottom) + 1, int(right) + 1] == 0


def test_pictures_without_the_face(nodes, ours):
    made = call(nodes, "InstantIDFaces", ours, image=torch.cat([GREY, photos("05_front")]))
    _, count, box, mask = made["result"]
    assert count == 1 and box["width"] > 50 and mask[0].max() == 0 and mask[1].sum() == box["width"] * box["height"]
    assert "There is no such face in picture 0." in " ".join(made["ui"]["text"][0].split())
    nobody = call(nodes, "InstantIDFaces", ours, image=GREY)["result"]
    assert nobody[1] == 0 and isinstance(nobody[2], ExecutionBlocker)


def test_the_best_pictures_come_first(nodes, ours):
    pictures = torch.cat([photos("04_front", "05_right"), GREY, photos("05_front")])
    made = call(nodes, "InstantIDLikeness", ours, image=pictures, reference=photos("05_front"))
    best, values, report = made["result"]
    assert torch.equal(best, pictures[[3, 1, 0]])
    assert values == sorted(values, reverse=True) and values[0] > 0.99 and values[1] > values[2] + 0.1
    assert made["ui"]["text"] == [report] and "picture 2 (1 of 4)" in " ".join(report.split())
    best, values, _ = call(nodes, "InstantIDLikeness", ours, image=pictures, reference=photos("05_front"),
                            keep_best=1)["result"]
    assert torch.equal(best, pictures[[3]]) and len(values) == 1


def test_none_above_the_minimum_stops_what_follows(nodes, ours):
    pictures, values, report = call(nodes, "InstantIDLikeness", ours, image=photos("04_front"), reference=photos("05_front"),
                                    minimum=0.7)["result"]
    assert isinstance(pictures, ExecutionBlocker) and values == [] and ", left out" in report


def test_a_person_is_a_reference(nodes, ours):
    person = call(nodes, "InstantIDPerson", ours, image=photos("05_front", "05_right"))["result"][0]
    by_person, by_photos = (call(nodes, "InstantIDLikeness", ours, image=photos("05_left"), reference=reference)["result"]
                            for reference in (person, photos("05_front", "05_right")))
    assert by_person[1:] == by_photos[1:]


def test_padding_stops_at_the_edges(nodes, ours):
    _, _, box, mask = call(nodes, "InstantIDFaces", ours, image=fx.photo(), padding=4096)["result"]
    height, width = fx.photo().shape[1:3]
    assert box == {"x": 0, "y": 0, "width": width, "height": height} and mask.min() == 1
