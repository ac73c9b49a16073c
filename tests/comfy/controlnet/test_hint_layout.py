"""The memory that IdentityNet's hint lies in: convolutions choose other kernels for interleaved than for planar memory."""

import pytest
import torch
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest

NOBODY = torch.rand(1, 96, 80, 3, generator=torch.Generator().manual_seed(3))


def planar(number, height, width):
    """Strides of [n, 3, h, w]."""
    return 3 * height * width, height * width, width, 1


def interleaved(number, height, width):
    return 3 * height * width, 1, 3 * width, 3


def hint(conditionings):
    hints = [options["control"].cond_hint_original for entries in conditionings for _, options in entries]
    assert all(one is hints[0] for one in hints)
    return hints[0]


@pytest.mark.parametrize("image_kps, expected", [
    (None, planar), (cases.faces("c", "d"), planar), (NOBODY, interleaved),
    (NOBODY.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), planar),
], ids=["photo", "several poses", "nobody", "nobody, planar"])
def test_of_apply(nodes, world, image_kps, expected):
    found = hint(cases.apply(nodes, world, image_kps=image_kps)[1:])
    assert found.stride() == expected(len(found), *found.shape[2:]) and found.dtype == torch.float32
    assert len(found) == (1 if image_kps is None else len(image_kps))


@pytest.mark.parametrize("picture, expected", [(cases.faces("a", "b"), planar), (NOBODY, interleaved)])
def test_of_the_preprocessor_and_apply_controlnet(nodes, world, picture, expected):
    """The preprocessor's picture is planar memory seen as [n, h, w, 3]; zeros lie as the picture that shows no face."""
    drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=picture)
    tokens = torch.zeros(1, 16, fx.CONTEXT)
    found = hint(cases.call(nodes, "ApplyInstantIDControlNet", face_embeds={"cond": tokens, "uncond": tokens},
                            control_net=world.net, image_kps=drawn, positive=world.positive, negative=world.negative,
                            strength=1.0, start_at=0.0, end_at=1.0))
    assert found.data_ptr() == drawn.data_ptr() and drawn.shape[-1] == 3
    assert found.stride() == expected(len(found), *found.shape[2:])


@pytest.mark.parametrize("layout, expected", [(lambda photos: photos.contiguous(), interleaved),
                                              (lambda photos: photos.movedim(-1, 1).contiguous().movedim(1, -1), planar)])
def test_of_zeros_where_the_first_photo_shows_nobody(nodes, world, layout, expected):
    """They lie as the photos do."""
    photos = layout(torch.cat([torch.zeros(1, 320, 320, 3), fx.portrait("a")]))
    found = hint(cases.apply(nodes, world, image=photos)[1:])
    assert found.shape == (2, 3, 320, 320) and not found.any() and found.stride() == expected(2, 320, 320)


def test_tokens_have_the_hints_dtype(nodes, world, loaded):
    """Also where the model computes in another one."""
    conditionings = cases.apply(nodes, world, model=loaded(torch.float16)[0])[1:]
    dtypes = {options["cross_attn_controlnet"].dtype for entries in conditionings for _, options in entries}
    assert dtypes == {torch.float32}
