"""Masks on the token grids of attention blocks."""

import pytest
import torch
from instantid_swift.identity.masks import LatentMask, block_grid, mask_weights
from instantid_swift.identity.terms import SamplingCache, UNetCall


@pytest.mark.parametrize("height, width, factor", [(128, 128, 2), (128, 128, 4), (96, 160, 2), (152, 104, 4), (16, 40, 2)])
def test_grid_of_sizes_that_divide(height, width, factor):
    tokens = (height // factor) * (width // factor)
    assert block_grid(tokens, height, width) == (height // factor, width // factor)


def test_grid_where_rounding_added_a_row():
    """135 x 240 cells halve to 68 x 120; the height comes out as 67 and a bit, and 8160 is no multiple of 67."""
    assert block_grid(68 * 120, 135, 240) == (68, 120)


@pytest.mark.parametrize("tokens, height, width", [(17, 5, 7), (1, 1, 1), (9, 1, 33), (33, 130, 2)])
def test_weights_always_number_the_tokens(tokens, height, width):
    assert mask_weights(torch.ones(2, 8, 8), tokens, height, width).shape == (2, tokens, 1)


def test_missing_cells_are_zero_half_before_and_half_after():
    """11 tokens on a 2 x 5 latent: a grid of 3 rows (2 does not divide 11) and 3 columns, two cells short."""
    assert block_grid(11, 2, 5) == (3, 3)
    assert mask_weights(torch.ones(1, 4, 4), 11, 2, 5).flatten().tolist() == pytest.approx([0] + [1] * 9 + [0])


def test_bilinear():
    mask = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    weights = mask_weights(mask, 16, 8, 8).reshape(4, 4)
    assert torch.equal(weights, torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(4, 4))


def grid(mask, batch, chunks, height=4, width=4, sampling_cache=None, **options):
    call = UNetCall.of(torch.zeros(batch), {"cond_or_uncond": list(range(chunks)), **options}, sampling_cache=sampling_cache)
    return mask.for_call(call)(height * width // 4, height, width)


def levels(*values):
    return LatentMask(torch.tensor(values)[:, None, None].expand(-1, 6, 6))


def test_one_mask_per_latent_and_the_last_repeats():
    assert grid(levels(0.1, 0.2), 6, 2)[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.2] * 2)


def test_extra_masks_are_dropped():
    assert grid(levels(0.1, 0.2, 0.3), 2, 1)[:, 0, 0].tolist() == pytest.approx([0.1, 0.2])


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


@pytest.mark.parametrize("shape", [(6, 6), (1, 1, 6, 6)])
def test_other_shapes_of_one_mask(shape):
    assert grid(LatentMask(torch.ones(shape)), 1, 1).shape == (1, 4, 1)


@pytest.mark.parametrize("shape", [(1, 6, 6, 3), (6,), (0, 6, 6)])
def test_what_is_no_mask_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"mask must be \[masks, height, width\]; this one is \["):
        LatentMask(torch.ones(shape))

