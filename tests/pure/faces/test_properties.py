"""Whatever picture comes, the face stage gives a result or says what is wrong."""

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from instantid_swift import caches, faces
from oracle import fixtures as fx

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True,
                    suppress_health_check=[HealthCheck.function_scoped_fixture])
SIDES = st.one_of(st.integers(1, 40), st.integers(1, 400), st.integers(1, 3000),
                  st.sampled_from([1, 2, 7, 639, 640, 641, 3000]))


def picture(height, width, content):
    """float32 [1, height, width, 3]: noise, one colour, or faces stretched to that shape."""
    if content == "noise":
        return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(height * 3001 + width))
    if content == "faces":
        return torch.nn.functional.interpolate(fx.photo().movedim(-1, 1), (height, width)).movedim(1, -1)
    return torch.full((1, height, width, 3), content)


@SETTINGS
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3, 4]),
       dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
       content=st.one_of(st.sampled_from(["noise", "faces"]), st.floats(width=32)), small_faces=st.booleans())
@example(height=1, width=1, channels=3, dtype=torch.float32, content=0.5, small_faces=True)
@example(height=1, width=3000, channels=4, dtype=torch.float16, content="noise", small_faces=False)
@example(height=3000, width=1, channels=1, dtype=torch.float32, content="noise", small_faces=False)
@example(height=886, width=1280, channels=4, dtype=torch.float16, content="faces", small_faces=False)
@example(height=886, width=1280, channels=1, dtype=torch.bfloat16, content="faces", small_faces=False)
@example(height=3000, width=3000, channels=3, dtype=torch.float32, content=float("nan"), small_faces=False)
def test_any_picture(ours, height, width, channels, dtype, content, small_faces):
    caches.clear()
    image = picture(height, width, content)
    image = torch.cat((image, image[..., :1]), dim=-1)[..., :channels].to(dtype)
    before = image.clone()
    found, = faces.Photos(ours, image, small_faces).found
    drawn = faces.Photos(ours, image, small_faces=small_faces).drawing()
    if found:
        embedding = faces.Photos(ours, image, small_faces=small_faces).references()
        assert embedding.shape == (1, 1, 512) and embedding.dtype == torch.float32 and embedding.isfinite().all()
        assert drawn.shape == (1, height, width, 3) and 0 <= drawn.min() and drawn.max() <= 1
    else:
        with pytest.raises(faces.NoFaceError, match=rf"The image \({width}x{height} pixels\) shows no face"):
            faces.Photos(ours, image, small_faces=small_faces).references()
        assert drawn is None
    if (height, width, content, channels) == (886, 1280, "faces", 4):
        assert len(found) == 6
    assert torch.equal(image, before) or image.isnan().any()


@SETTINGS
@given(where=st.lists(st.tuples(st.integers(0, 319), st.integers(0, 319)), max_size=30),
       value=st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e30, -1e30]))
def test_a_few_broken_pixels_hide_nobody(ours, where, value):
    caches.clear()
    image = fx.portrait("b").clone()
    for row, column in where:
        image[0, row, column] = value
    (face,), = faces.Photos(ours, image).found
    (whole,), = faces.Photos(ours, fx.portrait("b")).found
    assert (abs(face.points - whole.points) < 5).all()


@pytest.mark.parametrize("shape", [(1, 64, 64, 2), (1, 64, 64, 5), (1, 0, 64, 3), (1, 64, 0, 3)])
def test_what_is_no_picture_is_refused(ours, shape):
    with pytest.raises(ValueError, match=r"An image must be \[pictures, height, width, 1, 3 or 4 channels\]"):
        faces.Photos(ours, torch.zeros(shape)).references()


def test_no_picture_at_all(ours):
    with pytest.raises(ValueError, match="hold one picture at least, this one is"):
        faces.Photos(ours, torch.zeros(0, 64, 64, 3)).references()
