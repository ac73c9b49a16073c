"""The nodes. Each checks its inputs, then hands them on: no state, no arithmetic.

photo -> faces/ (embedding, keypoints) -> identity/ (tokens, K and V) -> CrossAttentionPatch.py (MODEL)
                                                                     -> controlnet/ (CONDITIONING)
"""

import logging
import os

import folder_paths
import torch

from . import caches, faces, replay, timing
from .controlnet import apply_identity_net, check_control_net
from .controlnet.nodes import InstantIDStepReuse
from .CrossAttentionPatch import check_model, patch_model
from .faces import ORDERS, PROVIDERS, FaceChoice
from .host import server
from .identity import (
    SELECTIONS,
    LatentMask,
    attention_dtype,
    factors_of_blocks,
    load_adapter,
    merge_embeddings,
    unconditional_embedding,
)
from .identity.adapter import EXPECTED
from .replay.nodes import InstantIDReplay
from .reporting.nodes import InstantIDCache, InstantIDPerformanceReport

log = logging.getLogger(__name__)

CATEGORY = "InstantID"


def _register_folders():
    for kind in ("instantid", "insightface"):
        folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))
    paths, extensions = folder_paths.folder_names_and_paths["instantid"]
    if not extensions:  # nobody has said which files count: none means all
        folder_paths.folder_names_and_paths["instantid"] = (paths, folder_paths.supported_pt_extensions)


_register_folders()


def _number(default, low, high, step, tooltip):
    return ("FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip})


INSTANTID = ("INSTANTID", {"tooltip": "The adapter, from Load InstantID Model."})
FACE_ANALYSIS = ("FACEANALYSIS", {"tooltip": "The face networks, from InstantID Face Analysis."})
CONTROL_NET = ("CONTROL_NET", {"tooltip": "IdentityNet, InstantID's ControlNet for SDXL."})
PHOTOS = ("IMAGE", {"tooltip": "Photos of the person. Of several faces in one the largest is taken, or the one chosen below."})
MODEL = ("MODEL", {"tooltip": "An SDXL model."})
POSITIVE = ("CONDITIONING", {"tooltip": "The prompt."})
NEGATIVE = ("CONDITIONING", {"tooltip": "The negative prompt."})
START = _number(0.0, 0.0, 1.0, 0.001, "Part of the sampling, 0 to 1, from which InstantID acts.")
END = _number(1.0, 0.0, 1.0, 0.001, "Part of the sampling, 0 to 1, until which InstantID acts.")
NOISE = _number(0.0, 0.0, 1.0, 0.1, "Noise in the negative pass instead of no face: less burnt colours.")
KEYPOINTS = ("IMAGE", {"tooltip": "Takes pose and place of the face from here: a photo, or a drawing of keypoints. "
                                  "Otherwise they are those of the first photo."})
MASK = ("MASK", {"tooltip": "Where in the picture the person is."})
REPLAY = ("BOOLEAN", {"default": False, "tooltip": "As InstantID Replay after this node: same picture, CUDA graphs."})
FACE_CHOICE = {
    "face": (ORDERS, {"default": "largest", "tooltip": "In which order the faces of a photo are counted for face_index."}),
    "face_index": ("INT", {"default": 0, "min": 0, "max": 999, "tooltip": "Which face of a photo is taken; 0 is the first."}),
}


def _attention(blocks):
    """The inputs that say where and how attention is patched, with the selection of blocks that the node has by default."""
    return {
        "blocks": (list(SELECTIONS), {"default": blocks, "tooltip": (
            "Which of SDXL's 70 cross-attention blocks see the person. 'as original': the 60 of the input and output side.")}),
        "block_weights": ("STRING", {"default": "", "tooltip": (
            "Changes to that, multiplied with the weight, such as: input 4: 0.5, output 1.3: 0, middle: 1")}),
        "attention": (["exact", "fused"], {"default": "exact", "tooltip": (
            "'fused' adds all persons in one GPU kernel where Triton is there; last digits differ, so may fine details.")}),
    }


def _no_face(*more):
    """The input that says what becomes of photos without a face."""
    tooltip = "If a photo shows no face: leave it out, stop with an error" + (
        ", or bypass this node, whose inputs then go on unchanged." if more else ".")
    return (["skip", "error", *more], {"default": "skip", "tooltip": tooltip})


APPLY_LINKS = {"instantid": INSTANTID, "insightface": FACE_ANALYSIS, "control_net": CONTROL_NET, "image": PHOTOS,
               "model": MODEL, "positive": POSITIVE, "negative": NEGATIVE}
APPLY_OPTIONAL = {"image_kps": KEYPOINTS, "mask": MASK, **FACE_CHOICE, "no_face": _no_face("bypass"),
                  **_attention("as original"), "replay": REPLAY}


def _identity(instantid, insightface, image, model, noise, combine_embeds, choice, require_all):
    """Photos to the Identity that one model will attend to."""
    check_model(model, instantid.widths)
    embedding = merge_embeddings(faces.reference_embeddings(insightface, image, choice, require_all), combine_embeds)
    return instantid.identity(embedding, unconditional_embedding(embedding, noise), attention_dtype(model.model))


def _patched(model, identity, weight, start_at, end_at, mask, factors, attention):
    mask = None if mask is None else LatentMask(mask)
    return patch_model(model, identity, weight, start_at, end_at, mask, factors=factors, fused=attention == "fused")


def _keypoint_hint(insightface, image, image_kps, choice):
    """What IdentityNet sees: drawn keypoints, the given image where it shows no face, else nothing.

    Of image_kps, a picture for pose alone, it is always the largest face.
    """
    if image_kps is None:
        drawn = faces.keypoint_images(insightface, image, choice, first_only=True)
        return torch.zeros_like(image) if drawn is None else drawn
    drawn = faces.keypoint_images(insightface, image_kps)
    return image_kps if drawn is None else drawn


class InstantIDModelLoader:
    DESCRIPTION = "Loads InstantID's adapter (ip-adapter.bin) from models/instantid."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("INSTANTID",)
    FUNCTION = "load_model"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"instantid_file": (folder_paths.get_filename_list("instantid"), {
            "tooltip": "A file in models/instantid: ip-adapter.bin, or the same as safetensors."})}}

    @classmethod
    def IS_CHANGED(cls, instantid_file):
        """Another file of the same name is another adapter."""
        path = folder_paths.get_full_path("instantid", instantid_file)
        return "" if path is None else str(caches.file_key(path))

    def load_model(self, instantid_file):
        path = folder_paths.get_full_path("instantid", instantid_file)
        if path is None:
            raise FileNotFoundError(f"The adapter {instantid_file} is not in {folder_paths.get_folder_paths('instantid')}. "
                                    f"{EXPECTED}")
        return (load_adapter(path),)


class InstantIDFaceAnalysis:
    DESCRIPTION = "Opens InsightFace's antelopev2 networks from models/insightface/models/antelopev2."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("FACEANALYSIS",)
    FUNCTION = "load_insight_face"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"provider": (PROVIDERS, {
                "tooltip": (
                    "The hardware that finds faces. What onnxruntime does not offer falls back to the CPU. CUDA searches its "
                    "convolutions as the original does, once for each size of picture: the first run takes longer.")})},
            "optional": {"small_faces": ("BOOLEAN", {"default": False, "tooltip": (
                "Looks again and closer at big pictures in which no face was found at first. Takes longer.")})},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        """Other networks of the same names are other networks."""
        return str(faces.state_of_networks(folder_paths.get_folder_paths("insightface")))

    def load_insight_face(self, provider, small_faces=False):
        return (faces.open_face_analysis(folder_paths.get_folder_paths("insightface"), provider, small_faces),)


class FaceKeypointsPreprocessor:
    DESCRIPTION = "Draws eyes, nose and mouth of the largest face the way IdentityNet reads them."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "preprocess_image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"faceanalysis": FACE_ANALYSIS, "image": ("IMAGE", {"tooltip": "Photos with a face."})},
                "optional": {**FACE_CHOICE, "no_face": _no_face()}}

    @timing.staged("draw keypoints")
    def preprocess_image(self, faceanalysis, image, face="largest", face_index=0, no_face="skip"):
        drawn = faces.keypoint_images(faceanalysis, image, FaceChoice(face, face_index), require_all=no_face == "error")
        return (torch.zeros_like(image) if drawn is None else drawn,)


class ApplyInstantID:
    DESCRIPTION = "Puts the person of the photos into the pictures of an SDXL model."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("MODEL", "positive", "negative")
    FUNCTION = "apply_instantid"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **APPLY_LINKS,
                "weight": _number(0.8, 0.0, 5.0, 0.01, "Strength of likeness and of IdentityNet."),
                "start_at": START, "end_at": END,
            },
            "optional": APPLY_OPTIONAL,
        }

    @timing.staged("apply")
    def apply_instantid(self, instantid, insightface, control_net, image, model, positive, negative, start_at, end_at,
                        weight=.8, ip_weight=None, cn_strength=None, noise=0.35, image_kps=None, mask=None,
                        combine_embeds="average", face="largest", face_index=0, no_face="skip", blocks="as original",
                        block_weights="", attention="exact", replay=False):
        check_control_net(control_net)
        factors = factors_of_blocks(blocks, block_weights)
        choice = FaceChoice(face, face_index)
        try:
            identity = _identity(instantid, insightface, image, model, noise, combine_embeds, choice, no_face != "skip")
        except faces.NoFaceError as error:
            if no_face != "bypass":
                raise
            log.warning("InstantID: bypassed. %s", error)
            return model, positive, negative
        patched = _patched(model, identity, weight if ip_weight is None else ip_weight, start_at, end_at, mask, factors,
                           attention)
        hint = _keypoint_hint(insightface, image, image_kps, choice)
        positive, negative = apply_identity_net(
            positive, negative, control_net, hint, *identity.tokens(instantid.device),
            weight if cn_strength is None else cn_strength, start_at, end_at, mask)
        return InstantIDReplay().replay(patched, positive, negative) if replay else (patched, positive, negative)


class ApplyInstantIDAdvanced(ApplyInstantID):
    DESCRIPTION = "Apply InstantID with likeness and IdentityNet apart, noise, and ways to combine several photos."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **APPLY_LINKS,
                "ip_weight": _number(0.8, 0.0, 3.0, 0.01, "Strength of likeness."),
                "cn_strength": _number(0.8, 0.0, 10.0, 0.01, "Strength of IdentityNet: pose and place of the face."),
                "start_at": START, "end_at": END, "noise": NOISE,
                "combine_embeds": (["average", "norm average", "concat"], {
                    "default": "average", "tooltip": "How several photos become one person."}),
            },
            "optional": APPLY_OPTIONAL,
        }


class InstantIDAttentionPatch:
    DESCRIPTION = "The likeness alone, without IdentityNet: use InstantID Apply ControlNet for that."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MODEL", "FACE_EMBEDS")
    FUNCTION = "patch_attention"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "instantid": INSTANTID, "insightface": FACE_ANALYSIS, "image": PHOTOS, "model": MODEL,
                "weight": _number(1.0, -1.0, 3.0, 0.01, "Strength of likeness."),
                "start_at": START, "end_at": END, "noise": NOISE,
            },
            "optional": {"mask": MASK, **FACE_CHOICE, "no_face": _no_face(), **_attention("all 70")},
        }

    @timing.staged("apply")
    def patch_attention(self, instantid, insightface, image, model, weight, start_at, end_at, noise=0.0, mask=None,
                        face="largest", face_index=0, no_face="skip", blocks="all 70", block_weights="", attention="exact"):
        factors = factors_of_blocks(blocks, block_weights)
        identity = _identity(instantid, insightface, image, model, noise, "average", FaceChoice(face, face_index),
                             no_face == "error")
        if weight != 0:
            model = _patched(model, identity, weight, start_at, end_at, mask, factors, attention)
        cond, uncond = identity.tokens(instantid.device)
        return model, {"cond": cond, "uncond": uncond}


class ApplyInstantIDControlNet:
    DESCRIPTION = "IdentityNet alone, for the face of InstantID Patch Attention."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    FUNCTION = "apply_controlnet"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "face_embeds": ("FACE_EMBEDS", {"tooltip": "The face, from InstantID Patch Attention."}),
                "control_net": CONTROL_NET,
                "image_kps": ("IMAGE", {"tooltip": "Drawn keypoints, from Face Keypoints Preprocessor."}),
                "positive": POSITIVE, "negative": NEGATIVE,
                "strength": _number(1.0, 0.0, 10.0, 0.01, "Strength of IdentityNet: pose and place of the face."),
                "start_at": START, "end_at": END,
            },
            "optional": {"mask": MASK},
        }

    @timing.staged("apply")
    def apply_controlnet(self, face_embeds, control_net, image_kps, positive, negative, strength, start_at, end_at, mask=None):
        if strength == 0:
            return positive, negative
        check_control_net(control_net)
        return apply_identity_net(positive, negative, control_net, image_kps, face_embeds["cond"],
                                               face_embeds["uncond"], strength, start_at, end_at, mask)


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (
    InstantIDModelLoader, InstantIDFaceAnalysis, ApplyInstantID, ApplyInstantIDAdvanced, FaceKeypointsPreprocessor,
    InstantIDAttentionPatch, ApplyInstantIDControlNet, InstantIDReplay, InstantIDStepReuse,
    InstantIDCache, InstantIDPerformanceReport)}
NODE_DISPLAY_NAME_MAPPINGS = {
    "InstantIDModelLoader": "Load InstantID Model",
    "InstantIDFaceAnalysis": "InstantID Face Analysis",
    "ApplyInstantID": "Apply InstantID",
    "ApplyInstantIDAdvanced": "Apply InstantID Advanced",
    "FaceKeypointsPreprocessor": "Face Keypoints Preprocessor",
    "InstantIDAttentionPatch": "InstantID Patch Attention",
    "ApplyInstantIDControlNet": "InstantID Apply ControlNet",
    "InstantIDReplay": "InstantID Replay",
    "InstantIDStepReuse": "InstantID Step Reuse",
    "InstantIDCache": "InstantID Cache",
    "InstantIDPerformanceReport": "InstantID Performance Report",
}


server.warn_of_twins(__name__, NODE_CLASS_MAPPINGS)
server.listen()
server.when_asked_to_free(caches.clear)
server.when_asked_to_free(replay.drop_all)
