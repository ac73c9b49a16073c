"""The one table of SDXL's cross-attention blocks."""

from collections import Counter

from instantid_swift.CrossAttentionPatch import SDXL_BLOCKS, SELECTIONS
from oracle.fixtures import BLOCK_WIDTHS, SDXL_MINI


def test_seventy_blocks():
    assert len(SDXL_BLOCKS) == len(set(SDXL_BLOCKS)) == 70
    assert Counter(block.section for block in SDXL_BLOCKS) == {"input": 24, "output": 36, "middle": 10}


def test_order_is_that_of_the_checkpoint():
    """Pair i's width in the checkpoint is the width of the i-th block: 640 at the outer level, 1280 further in."""
    outer = {("input", 4), ("input", 5), ("output", 3), ("output", 4), ("output", 5)}
    assert [2 if (block.section, block.id) in outer else 4 for block in SDXL_BLOCKS] == BLOCK_WIDTHS


def test_depths_are_those_of_sdxl():
    """Against ComfyUI's description of SDXL: transformer depths by UNet block."""
    depth = Counter((block.section, block.id) for block in SDXL_BLOCKS)
    # two residual blocks a level; input block 0 is the first convolution, 3 and 6 are downsamplers
    of_input = dict(zip((1, 2, 4, 5, 7, 8), SDXL_MINI["transformer_depth"], strict=True))
    assert {i: d for (section, i), d in depth.items() if section == "input"} == {i: d for i, d in of_input.items() if d}
    of_output = dict(enumerate(reversed(SDXL_MINI["transformer_depth_output"])))
    assert {i: d for (section, i), d in depth.items() if section == "output"} == {i: d for i, d in of_output.items() if d}
    assert depth["middle", 0] == SDXL_MINI["transformer_depth_middle"]


def test_the_original_left_the_middle_alone():
    assert len(SELECTIONS["as original"]) == 60
    assert not any(block.section == "middle" for block in SELECTIONS["as original"])
    assert SELECTIONS["all 70"] == set(SDXL_BLOCKS)
