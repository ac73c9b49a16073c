"""One look at each photo: how often the networks run, at which size a face is found, what is kept, progress and stopping."""


import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from conftest import count_runs
from instantid_swift import faces
from instantid_swift.faces.analysis import open_face_analysis
from instantid_swift.faces.photos import FaceChoice
from oracle import cases
from oracle import fixtures as fx
from photos import close_up, mixed, read_image, six_portraits, tom_hanks


@pytest.fixture(params=["ours", "insightface"])
def analysis(request, ours, world):
    """FACEANALYSIS from our node, and a plain one from another pack's."""
    return ours if request.param == "ours" else world.analysis


# ---- how often the networks run


@pytest.mark.newest
def test_one_look_at_a_photo(nodes, world, counted):
    """The original ran four networks on every face, twice: for the embedding and for the keypoints."""
    analysis, detector, embedder = counted
    cases.apply(nodes, world, insightface=analysis, image=fx.photo())
    assert (detector.shapes, embedder.shapes) == ([(1, 3, 640, 640)], [(1, 3, 112, 112)])
    cases.apply(nodes, world, insightface=analysis, image=fx.photo(), weight=0.4)
    assert (detector.runs, embedder.runs) == (1, 1)


@pytest.mark.newest
def test_one_look_at_a_batch_of_photos(nodes, world, counted):
    """The keypoints of the first photo come from the look that gave all photos' embeddings."""
    analysis, detector, embedder = counted
    cases.apply(nodes, world, insightface=analysis, image=six_portraits())
    assert (detector.shapes, embedder.shapes) == ([(6, 3, 640, 640)], [(1, 3, 112, 112)] * 6)


@pytest.mark.newest
def test_another_choice_is_another_embedding_of_the_same_look(counted):
    analysis, detector, embedder = counted
    both = [faces.Photos(analysis, fx.photo(), FaceChoice("left to right", index)).references() for index in (0, 5)]
    faces.Photos(analysis, fx.photo(), FaceChoice("left to right", 5)).drawing()
    assert (detector.runs, embedder.runs) == (1, 2) and not torch.allclose(*both)


@pytest.mark.newest
def test_a_mixed_batch(counted):
    """Each is found at its size, whoever is found leaves the pool at once, the order stays."""
    analysis, detector, embedder = counted
    found = faces.Photos(analysis, mixed()).found
    assert [[face.size for face in one] for one in found] == [[640], [384], [448], [], [640]]
    assert [shape[0] for shape in detector.shapes] == [5, 3, 3, 3, 2, 1, 1, 1, 1, 1]
    assert [shape[2] for shape in detector.shapes] == [640, 576, 512, 448, 384, 320, 256, 192, 128, 640]
    embeddings = faces.Photos(analysis, mixed()).references()
    assert [shape[0] for shape in embedder.shapes] == [1] * 4
    for number, index in enumerate((0, 1, 2, 4)):
        alone = faces.Photos(analysis, mixed()[index:index + 1]).references()
        torch.testing.assert_close(embeddings[number], alone[0], rtol=1e-4, atol=1e-4)


# ---- at which size


@pytest.mark.newest
@pytest.mark.parametrize("picture, size", [(close_up, 384), (tom_hanks, 448)])
def test_a_face_that_fills_its_picture_is_found(analysis, picture, size):
    """insightface 1.0 and later ignores det_model.input_size, so the original looked at 640 nine times."""
    (face,), = faces.Photos(analysis, picture()).found
    assert face.size == size
    assert faces.Photos(analysis, picture()).references().shape == (1, 1, 512)


@pytest.mark.newest
def test_a_small_face_in_a_big_picture(nodes, face_root, monkeypatch):
    face = 110
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "insightface", ([str(face_root)], set()))
    image = torch.full((1, 2000, 2400, 3), 0.4)
    image[0, 1500:1500 + face, 700:700 + face] = read_image(fx.portrait("a")[0], (face, face))[0]
    analysis, = cases.call(nodes, "InstantIDFaceAnalysis", provider="CPU")
    with pytest.raises(faces.NoFaceError, match="turn on small_faces in InstantID Options"):
        faces.Photos(analysis, image).references()
    (found,), = faces.Photos(analysis, image, small_faces=True).found
    assert found.size == 1024
    assert 700 < found.points[:, 0].min() and found.points[:, 0].max() < 700 + face
    assert 1500 < found.points[:, 1].min() and found.points[:, 1].max() < 1500 + face


@pytest.mark.newest
def test_pictures_are_not_enlarged_for_small_faces(face_root, counted):
    with pytest.raises(faces.NoFaceError) as error:
        faces.Photos(counted[0], torch.zeros(1, 900, 700, 3), small_faces=True).references()
    assert [shape[2] for shape in counted[1].shapes] == [640, 1024, 576, 512, 448, 384, 320, 256, 192, 128, 640]
    assert "small_faces" not in str(error.value)


# ---- what has no face


@pytest.mark.newest
def test_pictures_without_a_face_are_left_out_and_said(analysis):
    images = torch.cat([fx.portrait("a"), torch.zeros(1, 320, 320, 3), fx.portrait("b"), torch.zeros(1, 320, 320, 3)])
    photos = faces.Photos(analysis, images)
    alone = [faces.Photos(analysis, fx.portrait(name)).references() for name in "ab"]
    torch.testing.assert_close(photos.references(), torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert photos.describe_missing() == (
        "The images at index 1, 3 of a batch of 4, whose first is at 0, (320x320 pixels) show no face")


@pytest.mark.newest
def test_no_face_is_said_with_size_and_sizes_tried(analysis):
    blank = torch.full((1, 200, 300, 3), 0.5)
    with pytest.raises(Exception, match=(
            r"^Reference Image: No face detected\. The image \(300x200 pixels\) shows no face\. Use a photo in which .*\. "
            r"The detector looked at the sizes 640, 576, 512, 448, 384, 320, 256, 192, 128, 640 with margins\.$")):
        faces.Photos(analysis, blank).references()
    with pytest.raises(faces.NoFaceError, match=r"None of the 3 images \(300x200 pixels\) shows a face\."):
        faces.Photos(analysis, blank.repeat(3, 1, 1, 1)).references()


# ---- what is kept


@pytest.mark.newest
def test_what_is_handed_out_cannot_change_what_is_kept(ours):
    faces.Photos(ours, fx.portrait("a")).references().zero_()
    assert faces.Photos(ours, fx.portrait("a")).references().any()
    face = faces.Photos(ours, fx.portrait("a")).found[0][0]
    with pytest.raises(ValueError, match="read-only"):
        face.points[:] = 0


# ---- progress and stopping


@pytest.fixture
def progress():
    """What ComfyUI's progress bar shows: (done, of how many)."""
    shown, before = [], comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *args, **kwargs: shown.append((value, total)))
    yield shown
    comfy.utils.set_progress_bar_global_hook(before)


def test_more_than_four_pictures_show_their_progress(ours, progress):
    assert faces.Photos(ours, six_portraits()[:4]).found and not progress
    assert faces.Photos(ours, mixed()).found
    assert progress[0] == (1, 5) and progress[-1] == (5, 5) and progress == sorted(progress)


@pytest.fixture
def stop():
    """The user's wish to stop, as the cancel button makes it."""
    yield comfy.model_management.interrupt_current_processing
    comfy.model_management.interrupt_current_processing(False)


def test_the_user_can_stop_it(counted, stop):
    analysis, detector, embedder = counted
    stop()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        faces.Photos(analysis, fx.portrait("a")).references()
    assert (detector.runs, embedder.runs) == (0, 0)
    faces.Photos(analysis, fx.portrait("a")).references()  # the wish is fulfilled once; nothing half-done was kept
    assert (detector.runs, embedder.runs) == (1, 1)


@pytest.mark.parametrize("network, runs", [(0, (1, 0)), (1, (0, 1))])
def test_the_user_can_stop_it_between_calls(face_root, stop, monkeypatch, network, runs):
    """17 pictures are two calls of the detector and 17 of the embedder."""
    images = fx.portrait("a").repeat(17, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(17) / 256  # different ones
    analysis = open_face_analysis([str(face_root)], "CPU")
    if network == 1:
        assert faces.Photos(analysis, images).found
    counted = count_runs(analysis)
    real = counted[network].session.run

    class Stopping:
        def run(self, *args):
            stop()
            return real(*args)
    counted[network].session = Stopping()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        faces.Photos(analysis, images).references()
    assert (counted[0].runs, counted[1].runs) == runs
