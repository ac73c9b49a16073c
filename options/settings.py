"""What travels along INSTANTID_OPTIONS."""

from typing import NamedTuple

from ..faces import LARGEST, FaceChoice
from ..identity import factors_of_blocks

AS_ORIGINAL = "as original"
NO_FACE = ("skip", "error", "bypass")


class Options(NamedTuple):
    """How photos are read and how attention is patched, for one node. Read-only; the defaults are what the original does."""
    choice: FaceChoice = LARGEST     # which face of a photo is meant
    no_face: str = "skip"            # one of NO_FACE: what happens where a photo shows no face
    small_faces: bool = False        # look closer at big pictures in which no face was found at first
    blocks: str = AS_ORIGINAL        # a name of `identity.SELECTIONS`; "as original" is the node's own selection
    block_weights: str = ""          # changes to the selection, as `identity.factors_of_blocks` reads them
    each_latent: bool = False        # the n-th photo belongs to the n-th latent of a batch
    enabled: bool = True             # whether a node does anything but hand on its inputs

    @property
    def require_all(self):
        """Whether every photo must show a face."""
        return self.no_face != "skip"

    @property
    def bypass(self):
        """Whether a node is to hand on its inputs unchanged where a photo shows no face."""
        return self.no_face == "bypass"

    def factors(self, selection):
        """Returns what the weight is multiplied by at each block, {Block: factor}.

        selection: the name in `identity.SELECTIONS` that "as original" stands for in the node. BlockWeightError if
        `block_weights` cannot be read.
        """
        return factors_of_blocks(selection if self.blocks == AS_ORIGINAL else self.blocks, self.block_weights)


DEFAULTS = Options()
