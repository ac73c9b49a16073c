"""The one table of SDXL's cross-attention blocks."""

from collections import Counter

import pytest
from instantid_swift.identity.blocks import SDXL_BLOCKS, factors_of_blocks
from instantid_swift.utils import InstantIDError
from oracle.fixtures import BLOCK_WIDTHS, SDXL_MINI


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


def test_named_selections():
    """The original left the middle alone."""
    as_original = factors_of_blocks("as original")
    assert len(as_original) == 60 and not any(block.section == "middle" for block in as_original)
    assert factors_of_blocks("all 70") == dict.fromkeys(SDXL_BLOCKS, 1.0)
    assert [len(factors_of_blocks(f"{section} only")) for section in ("input", "output", "middle")] == [24, 36, 10]


def test_weights_by_section_block_and_transformer_block():
    factors = factors_of_blocks("as original", "output: 0.5, output 1: 0\noutput 1.3: .25, middle 0 = 2")
    of = {(block.section, block.id, block.index): factor for block, factor in factors.items()}
    assert of["output", 0, 0] == 0.5 and of["output", 1, 3] == 0.25 and of["middle", 0, 9] == 2 and of["input", 4, 0] == 1
    assert ("output", 1, 0) not in of and len(of) == 60 - 10 + 1 + 10


@pytest.mark.parametrize("text", ["input 3: 1", "input 4.2: 1", "up 4: 1", "input 4", "input 4: much", "4: 1"])
def test_what_names_no_block_is_refused(text):
    with pytest.raises(InstantIDError, match="cannot be read. Write for example.*SDXL's blocks are input 4, input 5,"):
        factors_of_blocks("all 70", f"output: 1, {text}")
