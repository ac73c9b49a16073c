"""The nodes. Each checks its inputs, then hands them on: no state, no arithmetic.

photo -> faces/ (embedding, keypoints) -> identity/ (tokens, K and V) -> CrossAttentionPatch.py (MODEL)
                                                                     -> controlnet/ (CONDITIONING)
"""

import contextlib
import os

import folder_paths
import torch

from . import caches, faces, performance
from .controlnet import apply_identity_net
from .controlnet.step_reuse import InstantIDStepReuse
from .CrossAttentionPatch import patch_model
from .faces import PROVIDERS
from .host import server, twins
from .identity import attention_dtype, load_adapter, usable_adapter
from .keypoints import drawn
from .keypoints import nodes as keypoint_nodes
from .likeness import nodes as likeness_nodes
from .options import inputs
from .options.nodes import DEFAULTS, InstantIDOptions
from .people import nodes as people_nodes
from .people.apply import Target, apply_identity
from .people.files import EXTENSION
from .people.places import Settings
from .performance.nodes import InstantIDCache, InstantIDPerformanceReport
from .refine.nodes import InstantIDRefineFaces
from .utils import check_photos, is_keypoint_drawing

CATEGORY = "InstantID"


def register_folders():
    for kind in ("instantid", "insightface", people_nodes.FOLDER):
        folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))
    for parts in (("instantid",), ("insightface", "models", "antelopev2")):
        with contextlib.suppress(OSError):  # the models may lie on a disk that cannot be written to
            os.makedirs(os.path.join(folder_paths.models_dir, *parts), exist_ok=True)
    people = folder_paths.get_folder_paths(people_nodes.FOLDER)
    folder_paths.folder_names_and_paths[people_nodes.FOLDER] = (people, {EXTENSION})
    paths, extensions = folder_paths.folder_names_and_paths["instantid"]
    if not extensions:  # no pack has named the endings that count: none means all
        folder_paths.folder_names_and_paths["instantid"] = (paths, folder_paths.supported_pt_extensions)


register_folders()

APPLY_LINKS = {"instantid": inputs.INSTANTID, "insightface": inputs.FACE_ANALYSIS, "control_net": inputs.CONTROL_NET,
               "image": inputs.PHOTOS, "model": inputs.MODEL, "positive": inputs.POSITIVE, "negative": inputs.NEGATIVE}
APPLY_OPTIONAL = {
    "image_kps": (inputs.DRAWING, {"tooltip": (
        "Where the face is and how it looks: a photo with another pose, a drawing from Face Keypoints Preprocessor, or "
        "keypoints. Without it, the pose of the first photo is used.")}),
    "mask": inputs.MASK_OF_PROMPT, "options": inputs.OPTIONS}
SAMPLING_PART = {"start_at": inputs.START, "end_at": inputs.END}


def _keypoint_hint(photos, insightface, image_kps, options):
    """Returns the IMAGE that IdentityNet reads: drawn keypoints, image_kps itself where it shows no face, or black.

    The largest face of image_kps is used: only its pose matters. A drawing, of one face or of several, is taken as it is: no
    face is looked for in it.
    """
    if image_kps is None:
        found = photos.drawing(first_only=True)
        return torch.zeros_like(photos.images) if found is None else found
    image_kps = drawn(image_kps)
    check_photos(image_kps)
    if is_keypoint_drawing(image_kps):
        return image_kps
    pose = faces.Photos(insightface, image_kps, **options.search)
    found = pose.drawing()
    if found is None:
        return image_kps
    inputs.report_missing_faces(pose)
    return found


class InstantIDModelLoader:
    DESCRIPTION = "Loads InstantID's adapter, the file ip-adapter.bin, from the folder models/instantid."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["ip-adapter face", "instantid loader", "face id model", "likeness", "consistent character", "人脸"]
    RETURN_TYPES = ("INSTANTID",)
    OUTPUT_TOOLTIPS = ("The adapter, for Apply InstantID.",)
    FUNCTION = "load_model"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"instantid_file": (folder_paths.get_filename_list("instantid"), {
            "tooltip": "A file in models/instantid: ip-adapter.bin, or the same weights as .safetensors."})}}

    @classmethod
    def IS_CHANGED(cls, instantid_file):
        """Returns the state of the file: a replaced file is loaded again."""
        return inputs.state_of_files("instantid", instantid_file)

    def load_model(self, instantid_file):
        return (load_adapter(folder_paths.get_full_path_or_raise("instantid", instantid_file)),)


class InstantIDFaceAnalysis:
    DESCRIPTION = ("Opens the networks that find and recognise faces: InsightFace's antelopev2, from the folder "
                   "models/insightface/models/antelopev2.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["insightface", "antelopev2", "face detection", "face recognition", "face loader", "人脸识别", "人脸"]
    RETURN_TYPES = ("FACEANALYSIS",)
    OUTPUT_TOOLTIPS = ("The face networks, for the inputs `insightface` and `faceanalysis`.",)
    FUNCTION = "load_insight_face"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"provider": (PROVIDERS, {"tooltip": (
            "The hardware that finds faces. CPU is right for most users: a photo is analysed once, and the result is kept. "
            "Choose another one for many photos in one run; CUDA takes longer in the first run, for each size of picture. If "
            "it is not available, the CPU is used.")})}}

    @classmethod
    def IS_CHANGED(cls, **widgets):
        """Returns the state of the files: replaced networks are opened again."""
        return str(faces.state_of_networks(folder_paths.get_folder_paths("insightface")))

    def load_insight_face(self, provider):
        analysis = faces.open_face_analysis(folder_paths.get_folder_paths("insightface"), provider)
        if analysis.fallback:
            server.tell(analysis.fallback)
        return (analysis,)


class FaceKeypointsPreprocessor:
    DESCRIPTION = ("Draws the eyes, the nose and the mouth of the largest face as the coloured points that IdentityNet reads. "
                   "Connect the result to `image_kps` to take the pose from this photo.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["kps", "face keypoints", "face landmarks", "face pose", "five points", "head pose",
                      "关键点", "姿势"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The drawn points on black, as large as the photo. Photos without a face are left out; without any face "
                       "the picture is black.",)
    FUNCTION = "preprocess_image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"faceanalysis": inputs.FACE_ANALYSIS,
                             "image": ("IMAGE", {"tooltip": "One or more photos that show a face in the wanted pose."})},
                "optional": {"options": inputs.OPTIONS}}

    @performance.staged("Face Keypoints Preprocessor")
    def preprocess_image(self, faceanalysis, image, options=DEFAULTS):
        if inputs.is_off(options):
            return (image,)
        photos = faces.Photos(faceanalysis, image, **options.photo_arguments)
        try:
            found = photos.drawing()
        except faces.NoFaceError as error:
            inputs.bypass(options, error)
            return (image,)
        if found is None:
            return (torch.zeros_like(image),)
        inputs.report_missing_faces(photos)
        return (found,)


class ApplyInstantID:
    DESCRIPTION = ("Puts the person of the photos into the pictures of an SDXL model. The adapter gives the likeness; "
                   "IdentityNet, InstantID's ControlNet, the place and the pose of the face. A cfg of 4 to 5 works best.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["likeness", "face swap", "portrait", "consistent character", "face id", "faceid", "same person",
                      "identity", "reference face", "avatar", "换脸", "肖像", "人脸", "一致性"]
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("MODEL", "positive", "negative")
    OUTPUT_TOOLTIPS = inputs.APPLY_OUTPUTS
    FUNCTION = "apply_instantid"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **APPLY_LINKS,
                "weight": inputs.number(0.8, 0.0, 5.0, 0.01, (
                    "How strongly the person is put into the picture: the strength of the likeness and of IdentityNet. Lower "
                    "it if colours look burnt or the prompt is ignored.")),
                **SAMPLING_PART,
            },
            "optional": APPLY_OPTIONAL,
        }

    @performance.staged("Apply InstantID")
    def apply_instantid(self, instantid, insightface, control_net, image, model, positive, negative, start_at, end_at,
                        weight=.8, ip_weight=None, cn_strength=None, noise=0.35, image_kps=None, mask=None,
                        combine_embeds="average", options=DEFAULTS):
        if inputs.is_off(options):
            return model, positive, negative
        inputs.report_no_effect(start_at, end_at, mask, limits_prompt=True)
        photos = faces.Photos(insightface, image, **options.photo_arguments)
        try:
            references = photos.references()
        except faces.NoFaceError as error:
            inputs.bypass(options, error)
            return model, positive, negative
        inputs.report_missing_faces(photos)
        target = Target(usable_adapter(instantid), control_net, model, positive, negative)
        identity = target.identity_of_photos(references, noise, combine_embeds, options.each_latent)
        settings = Settings(weight if ip_weight is None else ip_weight, weight if cn_strength is None else cn_strength,
                            start_at, end_at, mask)
        return apply_identity(target, identity, _keypoint_hint(photos, insightface, image_kps, options), settings, options)


class ApplyInstantIDAdvanced(ApplyInstantID):
    DESCRIPTION = ("Apply InstantID with more sliders: the strength of the likeness and of IdentityNet apart, noise in the "
                   "negative pass, and ways to combine several photos of one person.")
    SEARCH_ALIASES = [*ApplyInstantID.SEARCH_ALIASES, "several photos", "combine faces", "blend faces"]

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **APPLY_LINKS,
                "ip_weight": inputs.IP_WEIGHT, "cn_strength": inputs.CN_STRENGTH,
                **SAMPLING_PART, "noise": inputs.NOISE,
                "combine_embeds": inputs.COMBINE_EMBEDS,
            },
            "optional": APPLY_OPTIONAL,
        }


class InstantIDAttentionPatch:
    DESCRIPTION = ("Gives the model the likeness of the person, without IdentityNet: the prompt decides where the face is and "
                   "how it looks. Add InstantID Apply ControlNet if the pose should be followed, too.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["likeness without pose", "face id", "free pose", "same person", "patch attention", "人脸", "一致性"]
    RETURN_TYPES = ("MODEL", "FACE_EMBEDS")
    OUTPUT_TOOLTIPS = ("The model with the person. Connect it to the sampler.",
                       "The face as IdentityNet reads it, for InstantID Apply ControlNet.")
    FUNCTION = "patch_attention"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "instantid": inputs.INSTANTID, "insightface": inputs.FACE_ANALYSIS, "image": inputs.PHOTOS,
                "model": inputs.MODEL,
                "weight": inputs.number(1.0, -1.0, 3.0, 0.01, "The strength of the likeness."),
                **SAMPLING_PART, "noise": inputs.NOISE,
            },
            "optional": {"mask": inputs.MASK, "options": inputs.OPTIONS},
        }

    @performance.staged("Apply InstantID")
    def patch_attention(self, instantid, insightface, image, model, weight, start_at, end_at, noise=0.0, mask=None,
                        options=DEFAULTS):
        if inputs.is_off(options):
            return model, None
        instantid, photos = usable_adapter(instantid), faces.Photos(insightface, image, **options.photo_arguments)
        try:
            references = photos.references()
        except faces.NoFaceError as error:
            inputs.bypass(options, error)
            return model, None
        inputs.report_missing_faces(photos)
        identity = instantid.identity_of_photos(references, attention_dtype(model.model), noise,
                                                each_latent=options.each_latent)
        if weight != 0:
            inputs.report_no_effect(start_at, end_at, mask)
            model = patch_model(model, identity, weight, start_at, end_at, mask, factors=options.factors("all 70"))
        cond, uncond = identity.tokens(instantid.device)
        return model, {"cond": cond, "uncond": uncond, **({"each_latent": True} if options.each_latent else {})}


class ApplyInstantIDControlNet:
    DESCRIPTION = ("Adds IdentityNet alone, for the face of InstantID Patch Attention: the place and the pose of the face come "
                   "from the drawn keypoints.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["identitynet", "face controlnet", "kps", "face pose", "姿势"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = inputs.APPLY_OUTPUTS[1:]
    FUNCTION = "apply_controlnet"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "face_embeds": ("FACE_EMBEDS", {"tooltip": "The face. Connect InstantID Patch Attention."}),
                "control_net": inputs.CONTROL_NET,
                "image_kps": (inputs.DRAWING, {"tooltip": "Keypoints, or their drawing. Connect Face Keypoints Preprocessor."}),
                "positive": inputs.POSITIVE, "negative": inputs.NEGATIVE,
                "strength": inputs.number(1.0, 0.0, 10.0, 0.01, (
                    "The strength of IdentityNet: how closely place and pose of the face are followed.")),
                **SAMPLING_PART,
            },
            "optional": {"mask": inputs.MASK_OF_PROMPT},
        }

    @performance.staged("Apply InstantID")
    def apply_controlnet(self, face_embeds, control_net, image_kps, positive, negative, strength, start_at, end_at, mask=None):
        if strength == 0 or face_embeds is None:  # none: InstantID Patch Attention was bypassed, or is switched off
            return positive, negative
        inputs.report_no_effect(start_at, end_at, mask, limits_prompt=True)
        return apply_identity_net(positive, negative, control_net, drawn(image_kps), face_embeds["cond"], face_embeds["uncond"],
                                  strength, start_at, end_at, mask, each_latent=face_embeds.get("each_latent", False))


NODES = {
    InstantIDModelLoader: "Load InstantID Model",
    InstantIDFaceAnalysis: "InstantID Face Analysis",
    ApplyInstantID: "Apply InstantID",
    ApplyInstantIDAdvanced: "Apply InstantID Advanced",
    FaceKeypointsPreprocessor: "Face Keypoints Preprocessor",
    InstantIDAttentionPatch: "InstantID Patch Attention",
    ApplyInstantIDControlNet: "InstantID Apply ControlNet",
    InstantIDOptions: "InstantID Options",
    **people_nodes.NODES,
    **keypoint_nodes.NODES,
    **likeness_nodes.NODES,
    InstantIDRefineFaces: "InstantID Refine Faces",
    InstantIDStepReuse: "InstantID Step Reuse",
    InstantIDCache: "InstantID Cache",
    InstantIDPerformanceReport: "InstantID Performance Report",
}
NODE_CLASS_MAPPINGS = {node.__name__: node for node in NODES}
NODE_DISPLAY_NAME_MAPPINGS = {node.__name__: name for node, name in NODES.items()}

server.install_middleware()
twins.watch(NODE_CLASS_MAPPINGS)
keypoint_nodes.add_route()
people_nodes.add_route()
server.register_release(caches.clear)
