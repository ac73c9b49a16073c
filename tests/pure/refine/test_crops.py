"""Where crops lie, what is painted in them, and how they are pasted."""

import itertools

import numpy as np
import pytest
import torch
from instantid_swift.keypoints import KeypointFace
from instantid_swift.refine.assign import PlacedFace
from instantid_swift.refine.crops import Crop, crop_of, paste

SIZE = (640, 480)
HERE = (300.0, 200.0, 340.0, 250.0)  # a face in the middle of a picture


def crop(box, *others, size=SIZE, padding=1.8):
    return crop_of(PlacedFace(0, 0, box, None, others), size, padding)


def in_picture(crop, mask, size=SIZE):
    """A crop's mask at its place in the picture [h, w]."""
    whole = torch.zeros(1, size[1], size[0], 1)
    crop.cut(whole)[0, :, :, 0] = mask
    return whole[0, :, :, 0]


def inside(box):
    """The pixels of a box, as an index of [h, w]."""
    left, top, right, bottom = map(round, box)
    return slice(top, bottom), slice(left, right)


def test_a_crop_has_its_face_in_the_middle_and_is_so_much_larger():
    assert crop(HERE)[:3] == (275, 180, 90)
    assert crop(HERE, padding=1.0)[:3] == (295, 200, 50)


@pytest.mark.parametrize("box, corner", [
    ((0.0, 0.0, 40.0, 50.0), (0, 0)), ((600.0, 430.0, 640.0, 480.0), (550, 390)), ((0.0, 200.0, 40.0, 250.0), (0, 180))])
def test_at_an_edge_a_crop_is_moved_into_the_picture_and_the_face_is_painted_to_the_edge(box, corner):
    found = crop(box)
    assert found[:3] == (*corner, 90)
    assert (in_picture(found, found.mask(0.1))[inside(box)] == 1).all()


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (301, 77), (16, 16), (1, 1)])
@pytest.mark.parametrize("padding", [1.0, 1.8, 8.0])
def test_a_crop_is_no_larger_than_the_picture(size, padding):
    found = crop((0.0, 0.0, *map(float, size)), size=size, padding=padding)
    assert found.side == min(size) and found.left + found.side <= size[0] and found.top + found.side <= size[1]
    assert found.mask(0.0).min() == 1, "a face that fills the picture is painted as a whole"


def test_the_rim_stays_and_the_face_is_painted_as_a_whole():
    found = crop(HERE)
    for mask in (found.mask(0.1), found.mask(0.0), (found.depth(768) > 0).float()):
        rim = mask.clone()
        rim[len(mask) // 16:-(len(mask) // 16), len(mask) // 16:-(len(mask) // 16)] = 0
        assert not rim.any() and mask.max() == 1
    assert (in_picture(found, found.mask(0.1))[inside(HERE)] == 1).all()
    assert 0 < found.mask(0.1)[45, 11] < 1


def test_the_mask_has_the_same_place_at_every_size():
    found = crop(HERE, (345.0, 200.0, 385.0, 250.0))
    small, large = found.depth(90), found.depth(90 * 8)
    large = large.view(90, 8, 90, 8).mean(dim=(1, 3))
    torch.testing.assert_close(large, small, atol=5e-3, rtol=0)  # less than half a pixel


@pytest.mark.parametrize("boxes", [
    [HERE, (341.0, 200.0, 381.0, 250.0)], [HERE, (320.0, 210.0, 360.0, 260.0)],
    [HERE, (310.0, 220.0, 320.0, 232.0)], [HERE, (341.0, 200.0, 381.0, 250.0), (320.0, 252.0, 350.0, 290.0)]],
    ids=["side by side", "overlapping", "one in the other", "three"])
@pytest.mark.parametrize("feather", [0.0, 0.1])
def test_what_is_painted_of_different_faces_does_not_meet(boxes, feather):
    crops = [crop(box, *(other for other in boxes if other is not box)) for box in boxes]
    masks = [in_picture(each, each.mask(feather)) for each in crops]
    assert all(mask.max() > 0 for mask in masks)
    for one, two in itertools.combinations(masks, 2):
        assert not ((one > 0) & (two > 0)).any()


def test_another_face_is_left_out():
    other = (342.0, 190.0, 382.0, 240.0)
    found = crop(HERE, other)
    mask = in_picture(found, found.mask(0.0))
    assert not mask[inside(other)].any() and in_picture(crop(HERE), crop(HERE).mask(0.0))[inside(other)].any()
    assert mask[inside(HERE)].all()


def test_of_two_faces_at_the_same_place_none_can_be_painted():
    assert crop(HERE, HERE).is_hidden and not crop(HERE, (320.0, 210.0, 360.0, 260.0)).is_hidden


def test_keypoints_go_with_the_crop():
    face = KeypointFace(np.array([[300.0, 200.0]] * 4 + [[340.0, 250.0]]), (1, 1, 1, 0.5, 0))
    width, height, (moved,) = Crop(275, 180, 90, PlacedFace(0, 0, HERE, face)).keypoints(180)
    assert (width, height) == (180, 180)
    assert moved.points[0].tolist() == [50, 40] and moved.points[4].tolist() == [130, 140]
    assert moved.opacities == face.opacities and face.points[0].tolist() == [300, 200]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pasting_keeps_what_the_mask_leaves_out_and_alpha(channels, dtype):
    """To the last bit, infinite numbers and NaN, too."""
    picture = torch.rand(1, 8, 8, channels, generator=torch.Generator().manual_seed(1)).to(dtype)
    picture[0, 2, 2], picture[0, 2, 3], picture[0, 3, 3] = float("nan"), float("inf"), float("nan")
    mask = torch.zeros(4, 4)
    mask[1:3, 1:3], mask[3, 3] = 1, 0.5
    pasted = picture.clone()
    paste(pasted, Crop(2, 2, 4, PlacedFace(0, 0, HERE, None)), torch.full((1, 4, 4, 3), 0.25), mask)
    painted = torch.zeros(1, 8, 8, 1, dtype=torch.bool).expand(-1, -1, -1, channels).clone()
    painted[0, 3:5, 3:5, :3] = painted[0, 5, 5, :3] = True
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    assert torch.equal(pasted.view(bits)[~painted], picture.view(bits)[~painted])
    assert (pasted[0, 3:5, 3:5, :3] == 0.25).all()
    torch.testing.assert_close(pasted[0, 5, 5, :3].float(), picture[0, 5, 5, :3].float() / 2 + 0.125, atol=1e-2, rtol=0)
