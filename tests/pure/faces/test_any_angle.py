"""Photos that lie on their side or stand on their head."""

import pytest
import torch
from instantid_swift import faces
from oracle import fixtures as fx

FACES = 6  # of the group photo


def turned(quarter):
    """The group photo, turned counter-clockwise by quarters of a circle."""
    return torch.rot90(fx.photo(), quarter, dims=(1, 2)).contiguous()


def points_upright(points, quarter):
    """Points [5, 2] of the turned photo in the upright one's pixels."""
    height, width = fx.photo().shape[1:3]
    x, y = torch.tensor(points).unbind(-1)
    return torch.stack([(x, y), (width - 1 - y, x), (width - 1 - x, height - 1 - y), (y, height - 1 - x)][quarter], dim=-1)


@pytest.fixture(scope="module")
def upright(ours):
    """(five points, embedding) of each face of the upright photo, from left to right."""
    photos = faces.Photos(ours, fx.photo())
    found = faces.FaceChoice("left to right").sort(photos.found[0], photos.size)
    return [(torch.tensor(face.points), photos.embed(0, face)) for face in found]


@pytest.mark.parametrize("quarter", range(4))
def test_all_faces_of_the_group_are_found_at_every_quarter_turn(ours, upright, quarter):
    photos = faces.Photos(ours, turned(quarter), any_angle=True)
    found = sorted(photos.found[0], key=lambda face: float(points_upright(face.points, quarter)[:, 0].mean()))
    assert len(found) == len(upright) == FACES
    for face, (points, embedding) in zip(found, upright, strict=True):
        torch.testing.assert_close(points_upright(face.points, quarter), points, rtol=0, atol=2)  # pixels
        assert torch.cosine_similarity(photos.embed(0, face), embedding, dim=0) > 0.9
        low, high = torch.tensor(face.box).view(2, 2)
        assert (torch.tensor(face.points) > low).all() and (torch.tensor(face.points) < high).all()


def test_the_detector_looks_at_a_photo_four_times_at_any_angle_and_once_without(counted):
    analysis, detector, _ = counted
    photo = fx.photo()
    without = faces.Photos(analysis, photo).found
    assert [shape[0] for shape in detector.shapes] == [1]
    with_it = faces.Photos(analysis, photo, any_angle=True).found
    assert [shape[0] for shape in detector.shapes] == [1, 4]
    for one, other in zip(without[0], with_it[0], strict=True):
        torch.testing.assert_close(torch.tensor(one.points), torch.tensor(other.points), rtol=0, atol=0.01)
    faces.Photos(analysis, photo, any_angle=True).references()
    assert len(detector.shapes) == 2  # kept


def test_photos_on_their_head_are_not_found_without_it(ours):
    photo = turned(2)[:, 376:696, 580:900]  # of one face
    (face,), = faces.Photos(ours, photo, any_angle=True).found
    assert face.points[0, 0] > face.points[1, 0] and face.points[0, 1] > face.points[3, 1]
    with pytest.raises(faces.NoFaceError, match="turn on any_angle in InstantID Options"):
        faces.Photos(ours, torch.full((1, 64, 64, 3), 0.5)).references()
