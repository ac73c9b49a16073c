"""Masks on the token grids of attention blocks."""

import pytest
import torch
from instantid_swift.identity.masks import LatentMask, block_grid, mask_weights, usable_mask, with_a_mask_for_each_latent
from instantid_swift.identity.terms import SamplingCache, UNetCall
from instantid_swift.utils import InstantIDError


@pytest.mark.parametrize("height, width, factor", [(128, 128, 2), (128, 128, 4), (96, 160, 2), (152, 104, 4), (16, 40, 2)])
def test_grid_of_sizes_that_divide(height, width, factor):
    tokens = (height // factor) * (width // factor)
    assert block_grid(tokens, height, width) == (height // factor, width // factor)


def test_grid_where_rounding_added_a_row():
    """135 x 240 cells halve to 68 x 120; the height comes out as 67 and a bit, and 8160 is no multiple of 67."""
    assert block_grid(68 * 120, 135, 240) == (68, 120)


def test_missing_cells_are_zero_half_before_and_half_after():
    """11 tokens on a 2 x 5 latent: a grid of 3 rows (2 does not divide 11) and 3 columns, two cells short. Cells that are too
    many are cropped."""
    assert block_grid(11, 2, 5) == (3, 3)
    assert mask_weights(torch.ones(1, 4, 4), 11, 2, 5).flatten().tolist() == pytest.approx([0] + [1] * 9 + [0])
    assert block_grid(33, 130, 2) == (47, 1) and mask_weights(torch.ones(2, 8, 8), 33, 130, 2).shape == (2, 33, 1)


def test_bilinear():
    mask = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    weights = mask_weights(mask, 16, 8, 8).reshape(4, 4)
    assert torch.equal(weights, torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(4, 4))


def grid(mask, batch, chunks, height=4, width=4, sampling_cache=None, **options):
    call = UNetCall.from_options(torch.zeros(batch), {"cond_or_uncond": list(range(chunks)), **options},
                                 sampling_cache=sampling_cache)
    return mask.for_call(call)(height * width // 4, height, width)


def levels(*values):
    return LatentMask(torch.tensor(values)[:, None, None].expand(-1, 6, 6))


def test_one_mask_per_latent_and_the_last_repeats():
    assert grid(levels(0.1, 0.2), 6, 2)[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.2] * 2)
    assert grid(levels(0.1, 0.2, 0.3), 2, 1)[:, 0, 0].tolist() == pytest.approx([0.1, 0.2]), "extra masks are dropped"


def test_sliding_windows_choose_masks_by_frame():
    """AnimateDiff runs a few frames of the batch per call, and says which."""
    chosen = grid(levels(0.1, 0.2, 0.3), 4, 2, ad_params={"sub_idxs": [1, 5]})
    assert chosen[:, 0, 0].tolist() == pytest.approx([0.2, 0.3] * 2)
    assert grid(levels(0.1, 0.2), 2, 1, ad_params={"sub_idxs": None})[:, 0, 0].tolist() == pytest.approx([0.1, 0.2])


def test_a_grid_is_made_once_per_resolution():
    mask, sampling_cache = levels(0.5), SamplingCache()
    assert grid(mask, 2, 2, sampling_cache=sampling_cache) is grid(mask, 2, 2, sampling_cache=sampling_cache)
    assert grid(mask, 2, 2, 8, 8, sampling_cache=sampling_cache).shape == (2, 16, 1)


def test_later_changes_of_the_users_mask_do_not_reach_us():
    users = torch.ones(1, 6, 6)
    mask = LatentMask(users)
    users.zero_()
    assert grid(mask, 1, 1).min() == 1


def test_what_is_no_mask_is_refused():
    with pytest.raises(ValueError, match=r"mask must be \[masks, height, width\]; this one is \[1, 6, 6, 3\]"):
        LatentMask(torch.ones(1, 6, 6, 3))
    with pytest.raises(InstantIDError, match="not finite"):
        LatentMask(torch.full((1, 6, 6), float("nan")))


@pytest.mark.parametrize("convert", [torch.Tensor.bool, torch.Tensor.half, lambda mask: mask[:, None]])
def test_one_form_of_all_masks(convert):
    """A mask of bool failed in the sampling, one of four dimensions in the conditioning. One of two is made three."""
    mask = (torch.arange(6) % 2).float().expand(2, 6, 6)
    given = convert(mask)
    usable = usable_mask(given)
    assert usable.dtype == (given.dtype if given.is_floating_point() else torch.float32) and torch.equal(usable.float(), mask)
    assert torch.equal(grid(LatentMask(given), 2, 1).float(), grid(LatentMask(mask.contiguous()), 2, 1))
    assert usable_mask(mask[0]).shape == (1, 6, 6) and usable_mask(mask) is mask


def test_masks_that_do_not_fit_the_batch_are_completed():
    """Two masks for three latents ended the sampling in a mismatch of shapes; attention repeats the last."""
    masks = torch.arange(3.0)[:, None, None].expand(3, 4, 4)

    def completed(count, latents, **options):
        conditions = {"positive": [{"mask": masks[:count], **options}], "negative": [{}], "middle": None}
        found = with_a_mask_for_each_latent(conditions, latents)
        assert found["negative"] == [{}] and found["middle"] is None and conditions["positive"][0]["mask"].shape[0] == count
        return found["positive"][0]["mask"][:, 0, 0].tolist()
    ours = {"cross_attn_controlnet": torch.zeros(1)}
    assert completed(2, 3, **ours) == [0, 1, 1] and completed(3, 5, **ours) == [0, 1, 2, 2, 2]
    assert completed(2, 4, **ours) == [0, 1], "ComfyUI repeats them as a whole, as ever"
    assert completed(3, 2, **ours) == [0, 1, 2] and completed(1, 3, **ours) == [0] and completed(2, 3) == [0, 1]
