"""The settings besides the original's widgets: the node, and the value of INSTANTID_OPTIONS links."""

from typing import NamedTuple

from ..faces import LARGEST, ORDERS, FaceChoice
from ..identity import SELECTIONS, factors_of_blocks
from ..utils import InstantIDError

AS_ORIGINAL = "as original"
NO_FACE = ("skip", "error", "bypass")


class Options(NamedTuple):
    """The settings of one node for reading photos and patching attention. Read-only; the defaults are the original's."""
    choice: FaceChoice = LARGEST     # the face of each photo to use
    no_face: str = "skip"            # one of NO_FACE: the reaction to a photo without a face
    small_faces: bool = False        # look closer at big pictures in which no face was found at first
    blocks: str = AS_ORIGINAL        # a name of `identity.SELECTIONS`; "as original" is the node's own selection
    block_weights: str = ""          # changes to the selection, as `identity.factors_of_blocks` reads them
    each_latent: bool = False        # the n-th photo belongs to the n-th latent of a batch
    enabled: bool = True             # whether a node does anything but hand on its inputs
    any_angle: bool = False          # look at pictures turned by quarters of a circle, too

    @property
    def photo_arguments(self):
        """The settings for reading photos, as arguments of `faces.Photos`."""
        return {"choice": self.choice, "require_all": self.no_face != "skip", **self.search}

    @property
    def search(self):
        """The settings for finding faces alone, as arguments of `faces.Photos`."""
        return {"small_faces": self.small_faces, "any_angle": self.any_angle}

    def factors(self, selection):
        """Returns the factor of the weight at each block, {Block: factor}.

        selection: the name in `identity.SELECTIONS` that "as original" stands for in the node. InstantIDError if
        `block_weights` cannot be read.
        """
        return factors_of_blocks(selection if self.blocks == AS_ORIGINAL else self.blocks, self.block_weights)


DEFAULTS = Options()


class InstantIDOptions:
    DESCRIPTION = ("Further settings of InstantID: which face of a photo is used, what happens if a photo shows no face, and "
                   "which parts of the model see the person. Connect it to the input `options` of a node of InstantID. "
                   "Unchanged, it changes nothing.")
    CATEGORY = "InstantID/advanced"
    SEARCH_ALIASES = ["instantid settings", "face index", "select face", "which face", "no face", "small face", "rotated photo",
                      "block weights", "person on the left", "layer weights", "人脸选项"]
    RETURN_TYPES = ("INSTANTID_OPTIONS",)
    RETURN_NAMES = ("options",)
    OUTPUT_TOOLTIPS = ("The settings, for the input `options` of any node of InstantID.",)
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "enabled": ("BOOLEAN", {"default": True, "tooltip": (
                "Turn it off to see the picture without the person: nodes that apply a person, or draw keypoints, then hand on "
                "their inputs unchanged.")}),
            "face_order": (ORDERS, {"default": ORDERS[0], "tooltip": (
                "The order in which the faces of a photo are counted. Together with face_index it says whose face is used.")}),
            "face_index": ("INT", {"default": 0, "min": 0, "max": 999, "tooltip": (
                "Which face of a photo is used, counted in face_order. 0 is the first one.")}),
            "no_face": (list(NO_FACE), {"default": NO_FACE[0], "tooltip": (
                "What happens if a photo shows no face. skip: the photo is left out, as long as another one shows a face. "
                "error: the run stops. bypass: the node does nothing and hands on its inputs unchanged.")}),
            "small_faces": ("BOOLEAN", {"default": False, "tooltip": (
                "Looks again and more closely at big pictures in which no face was found at first. This takes longer.")}),
            "blocks": (list(SELECTIONS), {"default": AS_ORIGINAL, "tooltip": (
                "Which of SDXL's 70 cross-attention blocks see the person. 'as original' keeps what the node does: Apply "
                "InstantID uses the 60 blocks of the input and the output side, InstantID Patch Attention uses all 70.")}),
            "block_weights": ("STRING", {"default": "", "tooltip": (
                "Changes the strength of single blocks. Each number is multiplied by the node's weight. Example: "
                "input 4: 0.5, output 1.3: 0, middle: 1")}),
            "each_latent": ("BOOLEAN", {"default": False, "tooltip": (
                "Makes a batch with another face in each picture: the first photo or person belongs to the first picture, the "
                "second to the second, and the last one to all that remain. The photos are not combined.")}),
            "any_angle": ("BOOLEAN", {"default": False, "tooltip": (
                "Finds faces in photos that lie on their side or stand on their head: each photo is looked at as it is and "
                "turned by 90, 180 and 270 degrees, which takes four times as long. The likeness is that of the upright face, "
                "the pose that of the photo as it lies.")}),
        }}

    @classmethod
    def VALIDATE_INPUTS(cls, block_weights=None):
        """Returns True, or the reason to refuse a prompt. block_weights is None where the widget is a link."""
        try:
            factors_of_blocks(AS_ORIGINAL, block_weights or "")
        except InstantIDError as error:
            return str(error)
        return True

    def collect(self, face_order, face_index, no_face, small_faces, blocks, block_weights, each_latent=False, enabled=True,
                any_angle=False):
        return (Options(FaceChoice(face_order, face_index), no_face, small_faces, blocks, block_weights, each_latent, enabled,
                        any_angle),)
