"""Pictures of any shape, channels and precision: a face, or an error that says what is wrong."""

import pytest
import torch
from instantid_swift import faces
from oracle import fixtures as fx


@pytest.mark.parametrize("dtype, channels", [(torch.float16, 4), (torch.bfloat16, 1)])
def test_faces_in_other_channels_and_precisions(ours, dtype, channels):
    image = torch.cat((fx.photo(), fx.photo()[..., :1]), dim=-1)[..., :channels].to(dtype)
    before = image.clone()
    photos = faces.Photos(ours, image)
    assert len(photos.found[0]) == 6 and torch.equal(image, before)
    embedding, drawn = photos.references(), photos.drawing()
    assert embedding.shape == (1, 1, 512) and embedding.dtype == torch.float32 and embedding.isfinite().all()
    assert drawn.shape == (1, 886, 1280, 3) and 0 <= drawn.min() and drawn.max() <= 1


@pytest.mark.parametrize("height, width", [(1, 1), (1, 3000), (300, 7)])
def test_pictures_of_any_shape(ours, height, width):
    photos = faces.Photos(ours, torch.full((1, height, width, 3), 0.5), small_faces=True)
    assert photos.found == ((),) and photos.drawing() is None
    with pytest.raises(faces.NoFaceError, match=rf"The image \({width}x{height} pixels\) shows no face"):
        photos.references()


@pytest.mark.parametrize("shape", [(1, 64, 64, 2), (1, 0, 64, 3), (0, 64, 64, 3)])
def test_what_is_no_picture_is_refused(ours, shape):
    with pytest.raises(ValueError, match=r"must be \[pictures, height, width, 1, 3 or 4 channels\]|hold one picture at least"):
        faces.Photos(ours, torch.zeros(shape)).references()
