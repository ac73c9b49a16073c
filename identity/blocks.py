"""The table of SDXL's 70 cross-attention blocks, and the selections of them that a node acts on."""

import re
from typing import NamedTuple

from ..utils import InstantIDError


class Block(NamedTuple):
    """One of SDXL's cross-attention blocks, as ComfyUI names it."""
    section: str  # "input", "output" or "middle"
    id: int       # of the section's block
    index: int    # of the transformer block in it


# (section, id, transformer blocks) in the order of the adapter's pairs of weights: 70 blocks in all
_LAYOUT = (("input", 4, 2), ("input", 5, 2), ("input", 7, 10), ("input", 8, 10),
           ("output", 0, 10), ("output", 1, 10), ("output", 2, 10), ("output", 3, 2), ("output", 4, 2), ("output", 5, 2),
           ("middle", 0, 10))
SDXL_BLOCKS = tuple(Block(section, number, index) for section, number, depth in _LAYOUT for index in range(depth))

# which blocks a node acts on, by name. "as original" is what two years of pictures from the Apply nodes were made with:
# the original registered the middle blocks under a key that is never looked up
SELECTIONS = {
    "as original": ("input", "output"),
    "all 70": ("input", "output", "middle"),
    "input only": ("input",),
    "output only": ("output",),
    "middle only": ("middle",),
}


MOST_QUOTED = 80      # characters of a block weight in a message
_ENTRY = re.compile(r"(\w+)(?:\s+(\d+)(?:\.(\d+))?)?\s*[:=]\s*(-?(?:\d+\.?\d*|\.\d+))", re.ASCII)


def factors_of_blocks(selection, text=""):
    """Returns {Block: factor}: the factor of the weight at each block that a node acts on. Blocks of factor 0 are left out.

    selection: a name of SELECTIONS. text: changes to it, as "input 4: 0.5, output 1.3: 0, middle: 1", each for a section, a
    block of it, or one transformer block of that; later ones win. InstantIDError if text cannot be read.
    """
    factors = {block: 1.0 for block in SDXL_BLOCKS if block.section in SELECTIONS[selection]}
    for line in filter(None, map(str.strip, text.replace("\n", ",").split(","))):
        found = _ENTRY.fullmatch(line)
        wanted = found and (found[1], *(int(number) for number in found.group(2, 3) if number))
        named = [block for block in SDXL_BLOCKS if wanted and block[:len(wanted)] == wanted]
        if not named:
            known = ", ".join(f"{section} {number}" for section, number, _ in _LAYOUT)
            raise InstantIDError(f"The block weight {line[:MOST_QUOTED]!r} cannot be read. Write for example 'input 4: 0.5' "
                                 f"or 'output 1.3: 0'; SDXL's blocks are {known}.")
        factors.update(dict.fromkeys(named, float(found[4])))
    return {block: factor for block, factor in factors.items() if factor}
