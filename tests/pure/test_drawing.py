"""Pictures in, pictures out, and the keypoint drawing."""

import numpy as np
import pytest
import torch
from instantid_swift.utils import KEYPOINT_COLOURS, draw_keypoints, image_to_bgr, pictures_to_image

POINTS = [[60, 50], [140, 55], [100, 100], [70, 140], [130, 145]]


def test_dots_are_bright_and_of_their_colour():
    drawing = draw_keypoints(200, 200, POINTS)
    for (x, y), colour in zip(POINTS, KEYPOINT_COLOURS, strict=True):
        assert tuple(drawing[y, x]) == colour
        assert tuple(drawing[y, x + 10]) == colour  # radius 10
        assert tuple(drawing[y, x + 11]) != colour


def test_sticks_are_dimmed_and_end_at_the_nose():
    drawing = draw_keypoints(200, 200, [[20, 100], [180, 100], [100, 100], [100, 20], [100, 180]])
    assert drawing[100, 60].tolist() == [153, 0, 0]   # 255 * 0.6
    assert drawing[100, 140].tolist() == [0, 153, 0]
    assert drawing[60, 100].tolist() == [153, 153, 0]
    assert drawing[104, 60].tolist() == [153, 0, 0] and not drawing[106, 60].any()  # half width 4
    assert not drawing[30, 30].any()


def test_image_to_bgr_turns_clamps_and_truncates():
    image = torch.tensor([[[0.999, 0.5, 0.0], [2.0, -1.0, float("nan")]]])
    assert image_to_bgr(image).tolist() == [[[0, 127, 254], [0, 0, 255]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_grey_level_is_converted_as_the_original_does(dtype):
    """image * 255, clamped and cut off, in the image's own precision: in float32, 131 levels of float16 came out one lower."""
    image = (torch.arange(256).repeat(3, 1, 1).movedim(0, -1) / 255).to(dtype)
    original = (image * 255).clamp(0, 255).to(torch.uint8)
    assert image_to_bgr(image).tolist() == original.tolist()
    if dtype == torch.float16:
        assert original[0, :, 0].tolist() == list(range(256))


def test_a_drawing_lies_in_planar_memory():
    """Convolutions give other last bits for interleaved memory, and the original's drawings are planar."""
    pictures = np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), np.uint8)
    image = pictures_to_image(list(pictures))
    assert image.movedim(-1, 1).stride() == (60, 20, 5, 1)
    assert torch.equal(image, torch.from_numpy(pictures).float() / 255)
