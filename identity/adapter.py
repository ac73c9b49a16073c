"""The InstantID adapter: its checkpoint file, and an identity made by it."""

import copy
import os
import re

import torch
from torch.utils.weak import WeakIdKeyDictionary

from .. import caches
from ..files.checkpoint import TensorFileError, read_tensors
from ..files.keys import get_or_read
from ..host.server import pack_of
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

    Weights keep the precision of their file, and are cast where they are used.
    """

    def __init__(self, widths):
        """widths: of the keys of each pair."""
        super().__init__()
        self.resampler = Resampler()
        self.to_k = torch.nn.ModuleList(torch.nn.Linear(CONTEXT_WIDTH, width, bias=False) for width in widths)
        self.to_v = torch.nn.ModuleList(torch.nn.Linear(CONTEXT_WIDTH, width, bias=False) for width in widths)

    @classmethod
    def of_shapes(cls, shapes):
        """Makes an adapter without weights, as wide as the projections in {parameter name: shape}.

        AdapterFileError where a shape is missing, superfluous, or does not fit.
        """
        with torch.device("meta"):
            adapter = cls([(*shapes[f"to_k.{pair}.weight"], 0)[0] for pair in range(PAIRS)])
        expected = {name: tuple(weight.shape) for name, weight in adapter.state_dict().items()}
        for name in sorted(expected.keys() | shapes.keys()):
            found, wanted = (list(of[name]) if name in of else "missing" for of in (shapes, expected))
            if found != wanted:
                raise AdapterFileError(f"Its tensors do not fit InstantID's: {name[:80]} is {found}, where InstantID's is "
                                       f"{wanted}.")
        return adapter

    @classmethod
    def from_state_dict(cls, state_dict):
        """Takes the tensors as they are: no copy, and no random weights made to be thrown away.

        AdapterFileError where a tensor is missing or its shape does not fit.
        """
        adapter = cls.of_shapes({name: tuple(tensor.shape) for name, tensor in state_dict.items()})
        adapter.load_state_dict(state_dict, assign=True)
        return adapter.requires_grad_(False)

    def forward(self, cond, uncond):
        """Embeddings [N, 1, 512] of one identity and its counterpart to an Identity, in their dtype and on their device.

        The two go through one after the other: a batch of both would save nothing that counts, and change last bits. Each
        part's weights are copied to the device when they are needed, once for both, and go when the next part is reached: the
        largest, a layer's feed-forward in float32, takes 52 MB. Weights that lie there in that dtype are used as they are.
        """
        def on_device(part):
            # a copy of the module around other weights; the module itself is shared and never changed
            return copy.deepcopy(part, {id(weight): torch.nn.Parameter(weight.to(cond.device, cond.dtype), requires_grad=False)
                                        for weight in part.parameters()})

        def project(layers):
            for layer in layers:
                layer = on_device(layer)
                yield torch.stack([layer(tokens).flatten(0, 1) for tokens in (uncond_tokens, cond_tokens)])

        with torch.inference_mode(False), torch.no_grad():
            cond_tokens, uncond_tokens = self.resampler.tokens_of_each(cond, uncond, on_device=on_device)  # (N, 16, 2048)
            return Identity(cond_tokens, uncond_tokens, list(project(self.to_k)), list(project(self.to_v)))


def open_adapter_file(path):
    """The adapter in a file: a torch pickle or safetensors, told apart by content.

    AdapterFileError for anything else, and where a tensor is missing, has another shape or holds no finite numbers.
    """
    try:
        tensors = read_tensors(path, _wanted)
        return Adapter.from_state_dict({_name_of_parameter(key): tensor for key, tensor in tensors.items()})
    except (AdapterFileError, TensorFileError) as error:
        raise AdapterFileError(f"{os.path.basename(path)} cannot be used as an InstantID adapter. "
                               f"{error} {EXPECTED}") from error


def _wanted(shapes):
    """The names of an adapter's tensors, from the shapes of all tensors of a file. AdapterFileError if it is no adapter."""
    _refuse_other_kinds(shapes)
    keys = [f"ip_adapter.{2 * pair + 1}.{kind}_ip.weight" for pair in range(PAIRS) for kind in ("to_k", "to_v")]
    missing = [key for key in keys if key not in shapes]
    if missing:
        raise AdapterFileError(f"It lacks {len(missing)} of the {2 * PAIRS} projections of SDXL's attention blocks, "
                               f"{missing[0]} first.")
    keys += [key for key in shapes if key.startswith("image_proj.")]
    Adapter.of_shapes({_name_of_parameter(key): shapes[key] for key in keys})
    return keys


def _name_of_parameter(key):
    """The name in `Adapter` of a tensor of the file."""
    part, _, rest = key.partition(".")
    if part == "image_proj":
        return f"resampler.{rest}"
    number, kind, _ = rest.split(".")
    return f"{kind.removesuffix('_ip')}.{int(number) // 2}.weight"


def _refuse_other_kinds(shapes):
    def any_key(*parts):
        return any(part in key for key in shapes for part in parts)

    if any_key("controlnet_cond_embedding", "input_hint_block", "zero_convs", "controlnet_down_blocks"):
        raise AdapterFileError("It is a ControlNet: put it into ComfyUI/models/controlnet and load it with "
                               "Load ControlNet Model.")
    if any_key("lora_up", "lora_A", "lora_down"):
        raise AdapterFileError("It is a LoRA.")
    if any_key("model.diffusion_model."):
        raise AdapterFileError("It is a checkpoint of a whole model.")
    if not any_key("image_proj.") or not any_key("ip_adapter."):
        raise AdapterFileError("It has no tensors named image_proj and ip_adapter.")
    projection = shapes.get("image_proj.proj_in.weight", ())
    if projection[1:] != (EMBEDDING_WIDTH,) or "image_proj.latents" not in shapes:
        raise AdapterFileError("It is an IPAdapter of another kind, which does not read InsightFace's "
                               f"{EMBEDDING_WIDTH}-wide face embeddings through InstantID's resampler.")


class InstantIDAdapter:
    """What travels along INSTANTID: an adapter whose weights stay in the computer's memory, in the precision of their file.

    They are needed once for each identity, so that ComfyUI's models keep their place on the GPU.
    """

    def __init__(self, path, key):
        """key: the file's identity, for caches."""
        self.module = open_adapter_file(path)
        self.key = key

    @property
    def widths(self):
        """Width of each pair's keys: the attention block it was trained for."""
        return [projection.out_features for projection in self.module.to_k]

    @property
    def device(self):
        """Where ComfyUI samples. IdentityNet's tokens belong there: it would copy them at every step."""
        import comfy.model_management
        return comfy.model_management.get_torch_device()

    @property
    def bytes(self):
        """Bytes of its weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.module.parameters())

    def identity(self, cond, uncond, dtype):
        """Embeddings [N, 1, 512] to an Identity, computed in dtype on ComfyUI's device; kept by content."""
        device = self.device
        key = (self.key, caches.tensor_key(cond), caches.tensor_key(uncond), device, dtype)
        return caches.identities.get_or_make(key, lambda: self.module(cond.to(device, dtype), uncond.to(device, dtype)))


class BorrowedAdapter(InstantIDAdapter):
    """An adapter over the weights of another pack's INSTANTID object, which is not changed."""

    def __init__(self, theirs):
        """theirs: has `image_proj_model`, whose weights are named as the file's, and `ip_layers`, whose weights may be named
        with underscores for dots. AdapterFileError where they are not InstantID's."""
        tensors = {f"resampler.{name}": tensor for name, tensor in theirs.image_proj_model.state_dict().items()}
        for name, tensor in theirs.ip_layers.state_dict().items():
            if found := re.search(r"(\d+)[._]to_([kv])_ip[._]weight$", name):
                tensors[f"to_{found[2]}.{int(found[1]) // 2}.weight"] = tensor
        missing = {f"to_{kind}.{pair}.weight" for kind in "kv" for pair in range(PAIRS)} - tensors.keys()
        if missing:
            raise AdapterFileError(f"It lacks {len(missing)} of the {2 * PAIRS} projections of SDXL's attention blocks.")
        self.key = caches.object_key(theirs)
        self.module = Adapter.from_state_dict(tensors)


# {an object of another pack: the adapter over its weights}; these are as large as the file, so they go with their owner
_borrowed = WeakIdKeyDictionary()


def usable_adapter(instantid):
    """What came along INSTANTID, as an adapter of ours: it may be the object of a pack that has registered our loader's id.

    AdapterFileError, which names the pack, where its weights cannot be read.
    """
    if isinstance(instantid, InstantIDAdapter):
        return instantid
    try:
        if not all(isinstance(getattr(instantid, part, None), torch.nn.Module) for part in ("image_proj_model", "ip_layers")):
            raise AdapterFileError("It has no image_proj_model and ip_layers.")
        if instantid not in _borrowed:
            _borrowed[instantid] = BorrowedAdapter(instantid)
        return _borrowed[instantid]
    except AdapterFileError as error:
        raise AdapterFileError(f"The INSTANTID given is a {type(instantid).__name__} of {pack_of(instantid)}, which InstantID "
                               f"Swift cannot use. {error} Connect InstantID Swift's Load InstantID Model, and keep one of the "
                               "two packs in custom_nodes if both have a node of this name.") from error


def load_adapter(path):
    """The adapter in a file; the same object as long as it is kept or in use and the file has not changed."""
    return get_or_read(caches.adapters, [path], lambda key: InstantIDAdapter(path, key))
