"""Nodes that look at faces and measure likeness."""

import torch
from comfy_execution.graph import ExecutionBlocker
from nodes import PreviewImage

from .. import faces, timing
from ..host import server
from ..host.inputs import checked
from ..options import DEFAULTS, inputs
from . import measure, numbered, report

CATEGORY = "InstantID/likeness"
PICTURES = ("IMAGE", {"tooltip": "The pictures, such as those of VAE Decode. Each is looked at once, in one batch."})


def shown(text, *pictures):
    """What a node shows on itself: a text, and pictures (IMAGE) from ComfyUI's folder of temporary files."""
    images = [one for picture in pictures for one in PreviewImage().save_images(picture, "InstantID")["ui"]["images"]]
    return {"text": [text], "images": images}


class InstantIDFaces:
    DESCRIPTION = ("Shows every face that is found in a picture, with its number as face_index of InstantID Options counts it, "
                   "its size in pixels and how certain the detector is. The face that is used is marked in green.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["detect faces", "face index", "which face", "face bounding box", "face mask", "number faces",
                      "select face"]
    RETURN_TYPES = ("IMAGE", "INT", "BOUNDING_BOX", "MASK")
    RETURN_NAMES = ("preview", "count", "box", "mask")
    OUTPUT_TOOLTIPS = ("The pictures with the numbered faces.", "How many faces all pictures show together.",
                       "The box around the face that is used, grown by padding. Of several pictures it is that of the first "
                       "one that shows it.",
                       "The same box as a mask, one for each picture. It is black where a picture does not show the face.")
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "insightface": inputs.FACE_ANALYSIS,
                "image": ("IMAGE", {"tooltip": "The pictures in which faces are looked for."}),
                "padding": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": (
                    "Grows the box and the mask by so many pixels on each side.")}),
            },
            "optional": {"options": inputs.OPTIONS},
        }

    @checked
    @timing.staged("show faces")
    def show(self, insightface, image, padding=0, options=DEFAULTS):
        found = faces.find_faces(insightface, image, options.small_faces)
        size, place = (image.shape[2], image.shape[1]), options.choice.index
        listed = [numbered.in_order(of, options.choice, size) for of in found]
        boxes = [numbered.bounding_box(of[place], size, padding) if place < len(of) else None for of in listed]
        preview = torch.cat([numbered.numbered(one, of, place) for one, of in zip(image, listed, strict=True)])
        counts = ", ".join(str(len(of)) for of in listed)
        text = f"Faces: {counts}. Used: face {place} in the order '{options.choice.order}'."
        if None in boxes:
            missing = ", ".join(str(index) for index, box in enumerate(boxes) if box is None)
            text += f" Not shown by the pictures at index {missing}."
        box = next((box for box in boxes if box is not None), None)
        if box is None:
            box = ExecutionBlocker(f"InstantID Faces: no picture shows a face {place}, so there is no box.")
        masks = torch.stack([numbered.mask_of(one, size) for one in boxes])
        return {"ui": shown(text, preview), "result": (preview, sum(map(len, listed)), box, masks)}


class InstantIDLikeness:
    DESCRIPTION = ("Measures how like the faces of pictures are to a person, from -1 to 1, and hands on the best pictures. The "
                   "number is the cosine of face embeddings, as research on identity measures it. A picture without a face "
                   "gets no number.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["face similarity", "face distance", "identity score", "arcface cosine", "keep best picture",
                      "select best", "compare faces"]
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("pictures", "likeness", "report")
    OUTPUT_TOOLTIPS = ("The pictures, best first. Nothing that follows runs if none is left.",
                       "The likeness of these pictures, best first: a list of numbers.",
                       "All numbers as a table, and what they mean.")
    FUNCTION = "measure"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "insightface": inputs.FACE_ANALYSIS, "image": PICTURES,
                "reference": ("IMAGE,PERSON", {"tooltip": (
                    "Whom the pictures should be like: one or more photos of the person, or a person. In photos with several "
                    "faces the largest one counts; connect InstantID Person to choose another one.")}),
                "keep_best": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": (
                    "How many pictures go on, best first. 0: all that have a number.")}),
                "minimum": inputs.number(-1.0, -1.0, 1.0, 0.01, "Pictures with a smaller likeness are left out."),
            },
            "optional": {
                "options": ("INSTANTID_OPTIONS", {"tooltip": (
                    "From InstantID Options: which face of each picture is measured, and whether small faces are looked "
                    "for.")}),
                "second_opinion": ("FACEANALYSIS", {"tooltip": (
                    "Other face networks, for a second number beside the first one. The order stays that of the first.")}),
            },
        }

    @checked
    @timing.staged("likeness")
    def measure(self, insightface, image, reference, keep_best=0, minimum=-1.0, options=DEFAULTS, second_opinion=None):
        measured = measure.likeness(insightface, image, reference, options.choice, options.small_faces, second_opinion)
        kept = measured.best(keep_best, minimum)
        text = report.report_text(measured, kept)
        if not kept:
            server.tell("No picture goes on: none shows a face with a likeness of at least "
                        f"{minimum:g}. Lower minimum, or look at the report.")
        pictures = image[kept] if kept else ExecutionBlocker(None)
        values = [measured.values[index] for index in kept]
        return {"ui": shown(text, report.bars(measured)), "result": (pictures, values, text)}


NODES = {
    InstantIDFaces: "InstantID Faces",
    InstantIDLikeness: "InstantID Likeness",
}
