"""Finding faces with the real networks: close-ups, agreement with insightface, other packs' use of our object."""

import insightface
import numpy as np
import pytest
import torch
from insightface.app.common import Face
from instantid_swift import face_models, faces
from oracle import fixtures as fx
from oracle.cases import call
from photos import read_image


@pytest.fixture(scope="module")
def ours(face_root):
    return face_models.open_face_analysis([str(face_root)], "CPU")


@pytest.fixture(params=["ours", "insightface"])
def analysis(request, ours, world):
    """FACEANALYSIS from our node, and a plain one from another pack's."""
    return ours if request.param == "ours" else world.analysis


def close_up():
    """A face of the group photo that fills its picture: the crop enlarged to 1024 pixels."""
    return read_image(fx.photo()[0, 271:410, 468:567], (1024, 1024))


def tom_hanks():
    return read_image(f"{insightface.__path__[0]}/data/images/Tom_Hanks_54745.png")


@pytest.mark.parametrize("picture, size", [(close_up, 384), (tom_hanks, 448)])
def test_a_face_that_fills_its_picture_is_found(analysis, picture, size):
    """insightface 1.0 and later ignores det_model.input_size, so the original looked at 640 nine times."""
    (found,), = [faces.find_faces(analysis, picture())]
    assert faces.largest(found).size == size
    assert faces.reference_embeddings(analysis, picture()).shape == (1, 1, 512)


def test_a_close_up_goes_through_apply(nodes, world):
    from oracle import cases
    assert len(cases.apply(nodes, world, image=close_up())) == 3


def test_faces_agree_with_insightface(analysis, world):
    theirs = world.analysis.get(np.ascontiguousarray((fx.photo()[0].numpy() * 255).astype(np.uint8)[..., ::-1]))
    found, = faces.find_faces(analysis, fx.photo())
    assert len(found) == len(theirs) == 6
    for face, other in zip(found, theirs, strict=True):
        np.testing.assert_allclose(face.box, other.bbox, atol=1e-3)
        np.testing.assert_allclose(face.points, other.kps, atol=1e-3)
        assert face.score == pytest.approx(float(other.det_score), abs=1e-5)
    largest = max(theirs, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))
    np.testing.assert_allclose(faces.reference_embeddings(analysis, fx.photo())[0, 0], largest.embedding, atol=1e-3)


def test_pulid_style_use_of_our_object(ours):
    """PuLID sets the detector's size, calls .get with a BGR picture, and reads bbox, kps and embedding."""
    bgr = np.ascontiguousarray((close_up()[0].numpy() * 255).astype(np.uint8)[..., ::-1])
    for size in range(640, 256, -64):
        ours.det_model.input_size = (size, size)
        found = ours.get(bgr)
        if found:
            break
    ours.det_model.input_size = (640, 640)
    assert isinstance(found[0], Face) and size < 640
    assert found[0].bbox.shape == (4,) and found[0].kps.shape == (5, 2) and found[0]["embedding"].shape == (512,)


def test_pictures_without_a_face_are_left_out(analysis):
    images = torch.cat([fx.portrait("a"), torch.zeros(1, 320, 320, 3), fx.portrait("b")])
    embeddings = faces.reference_embeddings(analysis, images)
    alone = [faces.reference_embeddings(analysis, fx.portrait(name)) for name in "ab"]
    torch.testing.assert_close(embeddings, torch.cat(alone), rtol=1e-4, atol=1e-3)


def test_no_face_is_said_with_number_size_and_sizes_tried(nodes, world, analysis):
    blank = torch.full((1, 200, 300, 3), 0.5)
    with pytest.raises(Exception, match=r"^Reference Image: No face detected\. The image \(300x200 pixels\).*640, 576.*128"):
        faces.reference_embeddings(analysis, blank)
    with pytest.raises(faces.NoFaceError, match="None of the 3 images"):
        faces.reference_embeddings(analysis, blank.repeat(3, 1, 1, 1))


class Counted:
    """A network whose runs are counted."""

    def __init__(self, session):
        self.session, self.runs = session, 0

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, *args, **kwargs):
        self.runs += 1
        return self.session.run(*args, **kwargs)


@pytest.fixture
def counted(face_root):
    """(analysis, detector, embedder), newly opened."""
    paths = face_models.find_networks([str(face_root)])
    analysis = face_models.FaceAnalysis(paths, "CPU", key=("counted",))
    for model in analysis.models.values():
        model.session = Counted(model.session)
    return analysis, analysis.det_model.session, analysis.models["recognition"].session


def test_one_look_at_a_photo(nodes, world, counted):
    """The original ran four networks on every face, twice: for the embedding and for the keypoints."""
    from oracle import cases
    analysis, detector, embedder = counted
    cases.apply(nodes, world, insightface=analysis, image=fx.photo())
    assert (detector.runs, embedder.runs) == (1, 1)
    cases.apply(nodes, world, insightface=analysis, image=fx.photo(), weight=0.4)
    assert (detector.runs, embedder.runs) == (1, 1)


def test_a_photo_edited_in_place_is_looked_at_again(counted):
    analysis, detector, _ = counted
    image = fx.photo()
    first = faces.reference_embeddings(analysis, image)
    image[0, :, :640] = 0
    second = faces.reference_embeddings(analysis, image)
    assert detector.runs == 2 and not torch.equal(first, second)


def test_what_is_handed_out_cannot_change_what_is_kept(ours):
    faces.reference_embeddings(ours, fx.portrait("a")).zero_()
    assert faces.reference_embeddings(ours, fx.portrait("a")).any()
    face = faces.find_faces(ours, fx.portrait("a"))[0][0]
    with pytest.raises(ValueError, match="read-only"):
        face.points[:] = 0


def test_keypoints_where_nobody_is(nodes, world):
    image = torch.rand(2, 64, 48, 3, generator=torch.Generator().manual_seed(0))
    drawn, = call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=image)
    assert drawn.shape == image.shape and not drawn.any()


def test_one_look_at_a_batch_of_photos(nodes, world, counted):
    """The keypoints of the first photo come from the look that gave all photos' embeddings."""
    from oracle import cases
    analysis, detector, embedder = counted
    cases.apply(nodes, world, insightface=analysis, image=cases.faces("a", "b", "c", "d", "e"))
    assert (detector.runs, embedder.runs) == (1, 1)
