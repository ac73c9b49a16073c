"""The two loaders and the two Apply nodes: the original's ids, inputs, methods and defaults."""

import os

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from . import faces
from .formulas import ours
from .patch import patch_model

BLOCKS = ours("identity.blocks").SDXL_BLOCKS
CONTEXT_WIDTH = ours("resampler").CONTEXT_WIDTH
attention_dtype = ours("identity.terms").attention_dtype
identity, identity_net = ours("identity.bank"), ours("controlnet.conditioning")

for kind in ("instantid", "insightface"):
    folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))


class Adapter(torch.nn.Module):
    """The checkpoint as modules that torch fills with random weights before they get the file's."""

    def __init__(self, path):
        super().__init__()
        tensors = comfy.utils.load_torch_file(path, safe_load=True)
        if "image_proj" in tensors:  # a torch pickle; safetensors are flat
            tensors = {f"{part}.{name}": tensor for part, named in tensors.items() for name, tensor in named.items()}
        self.image_proj = ours("resampler").Resampler()
        self.ip_adapter = torch.nn.ModuleDict({str(number): torch.nn.ModuleDict({
            kind: torch.nn.Linear(CONTEXT_WIDTH, len(tensors[f"ip_adapter.{number}.{kind}.weight"]), bias=False)
            for kind in ("to_k_ip", "to_v_ip")}) for number in range(1, 2 * len(BLOCKS), 2)})
        self.load_state_dict(tensors)


def number(default, low, high, step):
    return ("FLOAT", {"default": default, "min": low, "max": high, "step": step})


LINKS = {"instantid": ("INSTANTID",), "insightface": ("FACEANALYSIS",), "control_net": ("CONTROL_NET",), "image": ("IMAGE",),
         "model": ("MODEL",), "positive": ("CONDITIONING",), "negative": ("CONDITIONING",)}
WINDOW = {"start_at": number(0.0, 0.0, 1.0, 0.001), "end_at": number(1.0, 0.0, 1.0, 0.001)}
STRENGTHS = {"ip_weight": number(0.8, 0.0, 3.0, 0.01), "cn_strength": number(0.8, 0.0, 10.0, 0.01)}
NOISE = {"noise": number(0.0, 0.0, 1.0, 0.1), "combine_embeds": (["average", "norm average", "concat"],)}
OPTIONAL = {"image_kps": ("IMAGE",), "mask": ("MASK",)}


class InstantIDModelLoader:
    CATEGORY, FUNCTION, RETURN_TYPES = "InstantID", "load_model", ("INSTANTID",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"instantid_file": (folder_paths.get_filename_list("instantid"),)}}

    def load_model(self, instantid_file):
        return (Adapter(folder_paths.get_full_path("instantid", instantid_file)),)


class InstantIDFaceAnalysis:
    CATEGORY, FUNCTION, RETURN_TYPES = "InstantID", "load_insight_face", ("FACEANALYSIS",)
    INPUT_TYPES = classmethod(lambda cls: {"required": {"provider": (["CPU", "CUDA", "ROCM", "CoreML"],)}})

    def load_insight_face(self, provider):
        return (faces.open_analysis(folder_paths.get_folder_paths("insightface")[0], provider),)


class ApplyInstantID:
    CATEGORY, FUNCTION = "InstantID", "apply_instantid"
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "CONDITIONING", "CONDITIONING"), ("MODEL", "positive", "negative")
    INPUT_TYPES = classmethod(lambda cls: {"required": {**LINKS, "weight": number(0.8, 0.0, 5.0, 0.01), **WINDOW},
                                           "optional": OPTIONAL})

    def apply_instantid(self, instantid, insightface, control_net, image, model, positive, negative, start_at, end_at,
                        weight=.8, ip_weight=None, cn_strength=None, noise=0.35, image_kps=None, mask=None,
                        combine_embeds="average"):
        # the original takes ComfyUI's default dtype, and crashes where the model's is another
        device, dtype = comfy.model_management.get_torch_device(), attention_dtype(model.model)
        instantid.to(device, dtype)
        embedding = faces.embeddings(insightface, image)
        if embedding is None:
            raise Exception("Reference Image: No face detected.")
        embedding = identity.merge_embeddings(embedding, combine_embeds)
        with torch.no_grad():
            cond, uncond = (instantid.image_proj(vector.to(device, dtype)) for vector in (
                embedding, identity.unconditional_embedding(embedding, noise)))
        hint = faces.drawn_keypoints(insightface, image[:1] if image_kps is None else image_kps)
        if hint is None:
            hint = torch.zeros_like(image) if image_kps is None else image_kps
        projections = {tuple(block): [layer.weight.detach() for layer in pair.values()] for block, pair in zip(
            BLOCKS, instantid.ip_adapter.values(), strict=True) if block.section != "middle"}
        patched = patch_model(model, projections, cond, uncond, weight if ip_weight is None else ip_weight, start_at, end_at,
                              mask)
        conditionings = identity_net.apply_identity_net(positive, negative, control_net, hint, cond.cpu(), uncond.cpu(),
                                                        weight if cn_strength is None else cn_strength, start_at, end_at, mask)
        return patched, *conditionings


class ApplyInstantIDAdvanced(ApplyInstantID):
    INPUT_TYPES = classmethod(lambda cls: {"required": {**LINKS, **STRENGTHS, **WINDOW, **NOISE}, "optional": OPTIONAL})


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (InstantIDModelLoader, InstantIDFaceAnalysis, ApplyInstantID,
                                                        ApplyInstantIDAdvanced)}
