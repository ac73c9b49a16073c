"""The InstantID adapter: its checkpoint file, its network, and the identities that it computes."""

import copy
import os

import einops
import safetensors
import torch

from .. import caches
from ..host.server import pack_of
from ..resampler import CONTEXT_WIDTH, EMBEDDING_WIDTH, Resampler
from ..utils import InstantIDError, what_is_wrong
from .bank import EachLatent, Identity, merge_embeddings, unconditional_embedding
from .blocks import SDXL_BLOCKS

PAIRS = len(SDXL_BLOCKS)
EXPECTED = ("InstantID's adapter is the file ip-adapter.bin (1.7 GB) of InstantX/InstantID; "
            "put it into ComfyUI/models/instantid.")
OTHER_KINDS = {  # {what a file is: parts of its tensors' names}
    "a ControlNet: put it into ComfyUI/models/controlnet and load it with Load ControlNet Model": (
        "controlnet_cond_embedding", "input_hint_block", "zero_convs", "controlnet_down_blocks"),
    "a LoRA": ("lora_up", "lora_A", "lora_down"),
    "a checkpoint of a whole model": ("model.diffusion_model.",)}


class AdapterNetwork(torch.nn.Module):
    """The network of the checkpoint, with its modules' names: the Resampler, and the projections of each attention block.

    Weights keep the precision of their file, and are cast where they are used.
    """

    def __init__(self, widths):
        """widths: the width of the keys of each pair."""
        super().__init__()
        self.image_proj = Resampler()
        self.ip_adapter = torch.nn.ModuleDict({str(2 * pair + 1): torch.nn.ModuleDict({
            name: torch.nn.Linear(CONTEXT_WIDTH, width, bias=False) for name in ("to_k_ip", "to_v_ip")})
            for pair, width in enumerate(widths)})

    @property
    def to_k(self):
        """The projections of each pair to keys."""
        return [pair["to_k_ip"] for pair in self.ip_adapter.values()]

    @property
    def to_v(self):
        """The projections of each pair to values."""
        return [pair["to_v_ip"] for pair in self.ip_adapter.values()]

    @classmethod
    def from_state_dict(cls, state_dict):
        """Returns the network around the given tensors, without a copy of them.

        InstantIDError where a tensor is missing, superfluous, or of another shape.
        """
        keys = [f"ip_adapter.{2 * pair + 1}.to_k_ip.weight" for pair in range(PAIRS)]
        with torch.device("meta"):
            adapter = cls([max(state_dict[key].numel() // CONTEXT_WIDTH, 1) if key in state_dict else 1 for key in keys])
        try:
            adapter.load_state_dict(state_dict, assign=True)
        except RuntimeError as error:
            found = " ".join(str(error).partition("AdapterNetwork:")[2].split())
            raise InstantIDError(f"Its tensors do not fit InstantID's: {found[:300]}.") from error
        return adapter.requires_grad_(False)

    def forward(self, cond, uncond):
        """Returns the Identity of embeddings [N, 1, 512] and their counterpart, computed in their dtype on their device.

        The two go through one after the other: a batch of both would save little and change the last bits. Each
        part's weights are copied to the device when they are needed, once for both, and go when the next part is reached: the
        largest, a layer's feed-forward in float32, takes 52 MB. Weights that lie there in that dtype are used as they are.
        """
        def on_device(part):
            # a copy of the module with other weights; the module itself is shared and never changed
            return copy.deepcopy(part, {id(weight): torch.nn.Parameter(weight.to(cond.device, cond.dtype), requires_grad=False)
                                        for weight in part.parameters()})

        def project(layers):
            for layer in layers:
                layer = on_device(layer)
                yield torch.stack([einops.rearrange(layer(tokens), "n tokens width -> (n tokens) width")
                                   for tokens in (uncond_tokens, cond_tokens)])

        with torch.inference_mode(False), torch.no_grad():
            cond_tokens, uncond_tokens = self.image_proj.tokens_of_each(cond, uncond, on_device=on_device)  # (N, 16, 2048)
            return Identity(cond_tokens, uncond_tokens, list(project(self.to_k)), list(project(self.to_v)))


def read_tensors(path):
    """Returns {name: tensor} of a file, on the CPU, in the precision of the file, without a copy.

    The two formats are told apart by content: users rename files. A dictionary in a dictionary is named "outer.inner".
    """
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # the length of the header, then JSON
    except OSError as error:
        raise InstantIDError(f"It cannot be read ({error.strerror}).") from error
    try:
        if is_safetensors:
            with safetensors.safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of safetensors, pickles, zip files and the system, which have no common class
        raise InstantIDError(what_is_wrong(path)) from error
    tensors = {}
    for name, value in loaded.items() if isinstance(loaded, dict) else ():
        tensors |= {f"{name}.{inner}": tensor for inner, tensor in value.items()} if isinstance(value, dict) else {
            str(name): value}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def open_adapter_file(path):
    """Returns the `AdapterNetwork` in a file, a torch pickle or safetensors. InstantIDError for anything else."""
    try:
        tensors = read_tensors(path)
        _refuse_other_kinds(tensors)
        return AdapterNetwork.from_state_dict(tensors)
    except InstantIDError as error:
        raise InstantIDError(f"{os.path.basename(path)} cannot be used as an InstantID adapter. "
                             f"{error} {EXPECTED}") from error


def _refuse_other_kinds(tensors):
    """Raises InstantIDError for other files that users put in the adapter's place. tensors: {name: tensor}."""
    for kind, parts in OTHER_KINDS.items():
        if any(part in name for name in tensors for part in parts):
            raise InstantIDError(f"It is {kind}.")
    if not all(any(name.startswith(half) for name in tensors) for half in ("image_proj.", "ip_adapter.")):
        raise InstantIDError("It has no tensors named image_proj and ip_adapter.")
    projection = tensors.get("image_proj.proj_in.weight")
    if projection is None or projection.shape[1:] != (EMBEDDING_WIDTH,):
        raise InstantIDError("It is an IPAdapter of another kind, which does not read InsightFace's "
                             f"{EMBEDDING_WIDTH}-wide face embeddings through InstantID's resampler.")


class InstantIDAdapter:
    """The value of INSTANTID links: an adapter whose weights stay in the computer's memory, in the precision of their file.

    Each identity needs them once; kept on the GPU, they would take the place of ComfyUI's models.
    """

    def __init__(self, path, key):
        """key: the file's identity, for caches."""
        self.module = open_adapter_file(path)
        self.key = key

    @property
    def device(self):
        """The device on which ComfyUI samples. IdentityNet's tokens go there once, or they would be copied at every step."""
        import comfy.model_management
        return comfy.model_management.get_torch_device()

    @property
    def bytes(self):
        """Bytes of its weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.module.parameters())

    def identity(self, cond, uncond, dtype):
        """Returns the Identity of embeddings [N, 1, 512], computed in dtype on ComfyUI's device and kept in the cache."""
        device = self.device
        key = (self.key, caches.tensor_key(cond), caches.tensor_key(uncond), device, dtype)
        return caches.identities.get_or_make(key, lambda: self.module(cond.to(device, dtype), uncond.to(device, dtype)),
                                             "make the tokens", gpu=True)

    def identity_of_photos(self, references, dtype, noise=0.0, combine_embeds="average", each_latent=False):
        """Returns the Identity of one person's photos, for a model that runs its attention in dtype.

        references: ArcFace embeddings [N, 1, 512]. noise, combine_embeds: as the nodes have them. each_latent: the n-th photo
        belongs to the n-th latent of a batch, so that none are combined.
        """
        embeddings = references.split(1) if each_latent else [merge_embeddings(references, combine_embeds)]
        identities = [self.identity(embedding, unconditional_embedding(embedding, noise), dtype) for embedding in embeddings]
        return EachLatent(identities) if each_latent else identities[0]


def usable_adapter(instantid):
    """Returns the adapter given as INSTANTID. InstantIDError, which names the pack, if it is another pack's."""
    if not isinstance(instantid, InstantIDAdapter):
        raise InstantIDError(f"The INSTANTID given is a {type(instantid).__name__} of {pack_of(instantid)}, which InstantID "
                             "Swift cannot use. Connect InstantID Swift's Load InstantID Model, and keep one of the two "
                             "packs in custom_nodes if both have a node of this name.")
    return instantid


def load_adapter(path):
    """Returns the adapter in a file. The object is shared as long as it is in use and the file is unchanged."""
    key = caches.file_key(path)
    return caches.adapters.get_or_make(key, lambda: InstantIDAdapter(path, key), "load InstantID model")
