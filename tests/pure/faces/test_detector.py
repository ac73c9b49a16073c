"""The detector by itself: batches of any pictures, both layouts of the exports, fixed sizes, margins."""

import numpy as np
import onnx
import pytest
from conftest import Counted
from instantid_swift.faces.detector import PIXELS_AT_ONCE, Detector
from instantid_swift.faces.photos import detect_faces, detection_passes
from instantid_swift.faces.providers import open_session
from instantid_swift.utils import InstantIDError
from oracle import fixtures as fx
from photos import bgr, close_up, tom_hanks

DYNAMIC, ANTELOPE = "scrfd_500m_bnkps.onnx", "det_500m.onnx"  # the second has antelopev2's layout: one picture, 2-D outputs


@pytest.fixture(params=[DYNAMIC, ANTELOPE])
def detector(request, face_files):
    return Detector(Counted(open_session(str(face_files / request.param), "CPU")))


@pytest.fixture
def dynamic(face_files):
    return Detector(Counted(open_session(str(face_files / DYNAMIC), "CPU")))


@pytest.mark.parametrize("size", [(640, 640), (320, 640)])
def test_a_batch_gives_what_single_pictures_give(dynamic, size):
    portraits = [bgr(fx.portrait(name))[20 * number:] for number, name in enumerate(fx.FACE_CROPS)]
    pictures = [*portraits, bgr(fx.photo()), bgr(close_up()), np.full((50, 300, 3), 127, np.uint8)]
    together = list(dynamic.detect(pictures, size))
    assert dynamic.session.runs == 1
    assert sum(len(boxes) for boxes, _ in together) >= 10 and not len(together[-1][0])
    for picture, (boxes, points) in zip(pictures, together, strict=True):
        (alone, alone_points), = dynamic.detect([picture], size)
        np.testing.assert_allclose(boxes, alone, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(points, alone_points, rtol=1e-4, atol=1e-4)


def test_a_large_batch_is_split(dynamic):
    found = list(dynamic.detect([bgr(fx.portrait("a"))] * 17, (640, 640)))
    assert [shape[0] for shape in dynamic.session.shapes] == [16, 1] and PIXELS_AT_ONCE == 16 * 640 * 640
    assert [len(boxes) for boxes, _ in found] == [1] * 17


def test_a_network_of_one_size_sees_faces_that_fill_the_frame_in_margins(face_files):
    model = onnx.load(face_files / ANTELOPE)
    free = Detector(open_session(model.SerializeToString(), "CPU"))
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[2].dim_value = sides[3].dim_value = 640
    fixed = Detector(open_session(model.SerializeToString(), "CPU"))
    assert [str(look) for look in detection_passes(fixed, small_faces=True)] == ["640", "640 with margins"]
    pictures = [bgr(close_up()), bgr(fx.portrait("a"))[:250]]
    found = detect_faces(pictures, fixed, detection_passes(fixed, False))
    wanted = detect_faces(pictures, free, detection_passes(free, False))
    assert [[face.size for face in faces] for faces in found] == [[213], [640]]
    assert [[face.size for face in faces] for faces in wanted] == [[384], [640]]
    for (face,), (other,), picture in zip(found, wanted, pictures, strict=True):
        assert np.abs(face.points - other.points).max() < 0.05 * picture.shape[1]
        assert np.abs(face.box - other.box).max() < 0.05 * picture.shape[1]


def test_networks_that_find_no_points_are_refused(face_files):
    with pytest.raises(InstantIDError, match="has 1 outputs; an SCRFD network.*scrfd_10g_bnkps.onnx"):
        Detector(open_session(str(face_files / "w600k_mbf.onnx"), "CPU"))


def test_pictures_that_have_their_face_are_not_looked_at_again(detector):
    pictures = [bgr(fx.photo()), bgr(close_up()), bgr(tom_hanks()), np.zeros((50, 300, 3), np.uint8)]
    found = detect_faces(pictures, detector, detection_passes(detector, False))
    assert [[face.size for face in faces] for faces in found] == [[640] * 6, [384], [448], []]
    left = [4, 3, 3, 3, 2, 1, 1, 1, 1, 1]
    assert [shape[0] for shape in detector.session.shapes] == (left if detector.takes_batches else [1] * sum(left))
