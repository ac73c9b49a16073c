"""The node that holds the settings beside the original's widgets."""

from ..faces import ORDERS, FaceChoice
from ..host.inputs import checked, reason_against_widgets
from ..identity import SELECTIONS, factors_of_blocks
from .settings import AS_ORIGINAL, NO_FACE, Options


class InstantIDOptions:
    DESCRIPTION = ("Further settings of InstantID: which face of a photo is used, what happens if a photo shows no face, and "
                   "which parts of the model see the person. Connect it to the input `options` of a node of InstantID. "
                   "Unchanged, it changes nothing.")
    CATEGORY = "InstantID/advanced"
    SEARCH_ALIASES = ["instantid settings", "face index", "select face", "which face", "no face", "small face", "block weights",
                      "person on the left", "layer weights"]
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
        }}

    @classmethod
    def VALIDATE_INPUTS(cls, block_weights=None):
        """ComfyUI asks this when a prompt is queued. block_weights is None where the widget is an input from another node."""
        reason = reason_against_widgets(cls, block_weights=block_weights)
        try:
            factors_of_blocks(AS_ORIGINAL, "" if reason else block_weights or "")
        except ValueError as error:
            reason = str(error)
        return reason or True

    @checked
    def collect(self, face_order, face_index, no_face, small_faces, blocks, block_weights, each_latent=False, enabled=True):
        return (Options(FaceChoice(face_order, face_index), no_face, small_faces, blocks, block_weights, each_latent, enabled),)
