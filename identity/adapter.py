"""The InstantID adapter: its checkpoint file, its weights under ComfyUI's memory management, an identity made by it."""

import os

import torch

from .. import caches
from ..resampler import CONTEXT_WIDTH, EMBEDDING_WIDTH, Resampler
from .bank import Identity
from .blocks import SDXL_BLOCKS

PAIRS = len(SDXL_BLOCKS)
EXPECTED = ("InstantID's adapter is the file ip-adapter.bin (1.7 GB) of InstantX/InstantID; "
            "it belongs into ComfyUI/models/instantid.")


class AdapterFileError(ValueError):
    """The file is not an InstantID adapter; the message says what it is and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


class Adapter(torch.nn.Module):
    """The checkpoint as modules: the Resampler, and for each attention block the projections of identity tokens.

    Weights keep the precision of their file; operations (comfy.ops.manual_cast) casts them where they are used.
    """

    def __init__(self, widths, operations=torch.nn):
        super().__init__()
        self.resampler = Resampler(operations)
        self.to_k = torch.nn.ModuleList(operations.Linear(CONTEXT_WIDTH, width, bias=False) for width in widths)
        self.to_v = torch.nn.ModuleList(operations.Linear(CONTEXT_WIDTH, width, bias=False) for width in widths)

    @classmethod
    def from_state_dict(cls, state_dict, operations=torch.nn):
        """Takes the tensors as they are: no copy, and no random weights made to be thrown away.

        AdapterFileError where a tensor is missing or its shape does not fit.
        """
        widths = [state_dict[f"to_k.{pair}.weight"].shape[0] for pair in range(PAIRS)]
        with torch.device("meta"):
            adapter = cls(widths, operations)
        try:
            adapter.load_state_dict(state_dict, assign=True)
        except RuntimeError as error:
            raise AdapterFileError(f"Its tensors do not fit InstantID's: {str(error).splitlines()[-1].strip()}") from error
        return adapter.requires_grad_(False)

    def forward(self, cond, uncond):
        """Embeddings [N, 1, 512] of one identity and its counterpart to an Identity, in their dtype and device.

        The two go through one after the other: a batch of both would save nothing that counts, and change last bits.
        """
        with torch.inference_mode(False), torch.no_grad():
            cond, uncond = self.resampler(cond), self.resampler(uncond)  # (N, 16, 2048)
            keys, values = ([torch.stack([project(tokens).flatten(0, 1) for tokens in (uncond, cond)])
                             for project in projections] for projections in (self.to_k, self.to_v))
        return Identity(cond, uncond, keys, values)


def open_adapter_file(path, operations=torch.nn):
    """The adapter in a file, its weights mapped into memory where the format allows it.

    Reads torch pickles (weights only) and safetensors, told apart by content. AdapterFileError for anything else.
    """
    try:
        return Adapter.from_state_dict(_named_as_parameters(_read_tensors(path)), operations)
    except AdapterFileError as error:
        raise AdapterFileError(f"{os.path.basename(path)} cannot be used as an InstantID adapter. "
                               f"{error} {EXPECTED}") from error


def _read_tensors(path):
    size = os.path.getsize(path)
    if size == 0:
        raise AdapterFileError("It is empty: download it again.")
    with open(path, "rb") as file:
        head = file.read(9)
    try:
        if head[8:] == b"{":  # after the length of its header, a safetensors file begins with JSON
            import safetensors.torch
            return safetensors.torch.load_file(path)
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # pickles from before PyTorch 1.6 are no zip files and cannot be mapped
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise AdapterFileError(f"It is damaged or was not downloaded completely ({size:,} bytes can't be read as "
                               f"tensors: {type(error).__name__}): download it again.") from error
    if not isinstance(loaded, dict):
        raise AdapterFileError("It holds no tensors by name.")
    flat = {}
    for key, value in loaded.items():
        nested = value.items() if isinstance(value, dict) else [(None, value)]
        flat.update({key if inner is None else f"{key}.{inner}": tensor for inner, tensor in nested})
    return flat


def _named_as_parameters(tensors):
    _refuse_other_kinds(tensors)
    named = {f"resampler.{key.removeprefix('image_proj.')}": tensor
             for key, tensor in tensors.items() if key.startswith("image_proj.")}
    missing = []
    for pair in range(PAIRS):
        for ours, theirs in (("to_k", "to_k_ip"), ("to_v", "to_v_ip")):
            key = f"ip_adapter.{2 * pair + 1}.{theirs}.weight"
            if key in tensors:
                named[f"{ours}.{pair}.weight"] = tensors[key]
            else:
                missing.append(key)
    if missing:
        raise AdapterFileError(f"It lacks {len(missing)} of the {2 * PAIRS} projections of SDXL's attention blocks, "
                               f"{missing[0]} first.")
    return named


def _refuse_other_kinds(tensors):
    def any_key(*parts):
        return any(part in key for key in tensors for part in parts)

    if any_key("controlnet_cond_embedding", "input_hint_block", "zero_convs", "controlnet_down_blocks"):
        raise AdapterFileError("It is a ControlNet: put it into ComfyUI/models/controlnet and load it with "
                               "Load ControlNet Model.")
    if any_key("lora_up", "lora_A", "lora_down"):
        raise AdapterFileError("It is a LoRA.")
    if any_key("model.diffusion_model."):
        raise AdapterFileError("It is a checkpoint of a whole model.")
    if not any_key("image_proj.") or not any_key("ip_adapter."):
        raise AdapterFileError("It has no tensors named image_proj and ip_adapter.")
    projection = tensors.get("image_proj.proj_in.weight")
    if projection is None or projection.shape[1] != EMBEDDING_WIDTH or "image_proj.latents" not in tensors:
        raise AdapterFileError("It is an IPAdapter of another kind, which does not read InsightFace's "
                               f"{EMBEDDING_WIDTH}-wide face embeddings through InstantID's resampler.")


class InstantIDAdapter:
    """What travels along INSTANTID: an adapter whose weights ComfyUI loads, counts and may evict."""

    def __init__(self, path):
        import comfy.model_management
        import comfy.model_patcher
        import comfy.ops
        module = open_adapter_file(path, comfy.ops.manual_cast)
        self.key = caches.file_key(path)
        self.name = os.path.basename(path)
        self.patcher = comfy.model_patcher.ModelPatcher(
            module, load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device())

    @property
    def widths(self):
        """Width of each pair's keys: the attention block it was trained for."""
        return [projection.out_features for projection in self.patcher.model.to_k]

    @property
    def device(self):
        """Where ComfyUI samples. IdentityNet's tokens belong there: it would copy them at every step."""
        return self.patcher.load_device

    @property
    def bytes(self):
        """Bytes of its weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.patcher.model.parameters())

    def identity(self, cond, uncond, dtype):
        """Embeddings [N, 1, 512] to an Identity, computed in dtype on ComfyUI's device; kept by content.

        After it, no weight of the adapter is in use: what sampling needs is the Identity alone.
        """
        import comfy.model_management

        def project():
            comfy.model_management.load_models_gpu([self.patcher])
            return self.patcher.model(cond.to(self.device, dtype), uncond.to(self.device, dtype))

        key = (self.key, caches.tensor_key(cond), caches.tensor_key(uncond), self.device, dtype)
        return caches.identities.get_or_make(key, project)


def load_adapter(path):
    """The adapter in a file; the same object as long as it is kept or in use and the file has not changed."""
    return caches.adapters.get_or_make(caches.file_key(path), lambda: InstantIDAdapter(path))
