"""Whether a call may be replayed, and if not, why not, in words.

Whatever a graph would freeze although it may differ from call to call (another pack's patches, hooks, weights that come and
go) makes the ordinary call run.
"""

import logging
import weakref
from typing import NamedTuple

import torch

from ..CrossAttentionPatch import KEY, REPLAY_KEY, AttentionPatch
from ..host import server
from ..identity.fused import FusedTerm
from ..identity.terms import ForeignTerm
from . import graphs

log = logging.getLogger(__name__)

# What is built but has not run on a GPU yet. Tests open it; users' samplings run without replay.
CUDA_MALLOC_ASYNC_IS_PROVED = False
DYNAMIC_VRAM_IS_PROVED = False

# what ComfyUI itself puts into transformer_options, and we
KNOWN_OPTIONS = {"cond_or_uncond", "uuids", "sigmas", "sample_sigmas", "wrappers", "callbacks", "patches", "patches_replace",
                 "prefetch_dynamic_vbars", "original_shape", "transformer_index", KEY}
HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # of torch.nn.Module


class Policy:
    """Decides for the MODEL and the CONDITIONING of one InstantID Replay node.

    sampling: the `Sampling` that is under way, or None.
    """

    def __init__(self):
        self.sampling = None
        self._outside = Sampling({})

    def __deepcopy__(self, memo):  # older versions of ComfyUI deep-copy the options of a model
        return self

    def sample(self, executor, *args, **kwargs):
        """ComfyUI wrapper around a sampling (OUTER_SAMPLE). After an error or an interruption no capture stays."""
        graphs.drop_now(only_if_requested=True)
        before, self.sampling = self.sampling, Sampling(executor.class_obj.model_options)
        try:
            return executor(*args, **kwargs)
        except BaseException:
            graphs.drop_now()
            raise
        finally:
            self.sampling = before

    def allows_unet(self, model, options, compiled):
        """Whether a UNet call of a BaseModel may be replayed. options: its transformer_options. compiled: whether ComfyUI's
        TorchCompileModel is used."""
        patcher = getattr(model, "current_patcher", None)
        if self.sampling is None or patcher is None:
            return self._outside.allows("the UNet was not called through ComfyUI's sampling")
        reason = ("torch.compile wraps the model" if compiled else
                  self.sampling.why_not("the model", model.diffusion_model, patcher) or why_not_options(options))
        return self.sampling.allows(reason)

    def allows_net(self, net, patcher):
        """Whether an evaluation of a ControlNet's module may be replayed."""
        if self.sampling is None:
            return self._outside.allows("the CONDITIONING of InstantID Replay is sampled without its MODEL")
        return self.sampling.allows(self.sampling.why_not("IdentityNet", net, patcher))


class Sampling:
    """What the policy knows of one sampling. options: the model_options of ComfyUI's guider.

    needed: bytes that the largest UNet call of the sampling takes, as ComfyUI estimates it.
    """

    def __init__(self, options):
        self._options = options
        self._told = set()
        self._checked = weakref.WeakKeyDictionary()  # torch.nn.Module: Checked
        self.needed = 0

    def tell(self, reason):
        """Says once in the sampling, in the log and on the node that is being executed, why something is not replayed."""
        if reason not in self._told:
            self._told.add(reason)
            text = f"Replay steps aside: {reason}. The sampling runs as usual, with the same picture."
            log.info("InstantID: %s", text)
            server.say_on_node(text)

    def allows(self, reason):
        """Whether there is no reason against a replay; one that there is, is told."""
        if reason is not None:
            self.tell(reason)
        return reason is None

    def why_not(self, name, module, patcher):
        """Why a module cannot be replayed as it is loaded now, in words, or None. patcher: ComfyUI's ModelPatcher of it.

        Looks at the module again when ComfyUI has loaded or unloaded some of it.
        """
        loaded = load_state(patcher)
        if module not in self._checked or self._checked[module].loaded != loaded:
            reason = why_not_machine(self._options) or why_not_module(name, module, patcher)
            self._checked[module] = Checked(loaded, reason, weight_addresses(module))
        return self._checked[module].reason

    def addresses(self, module):
        """Where the weights lie of a module that was asked about."""
        return self._checked[module].addresses


class Checked(NamedTuple):
    """What was found out about a module."""
    loaded: tuple  # `load_state`
    reason: str | None
    addresses: tuple


def load_state(patcher):
    """What changes when ComfyUI loads, unloads or patches weights of a model: a tuple that is cheap to get and to compare."""
    return tuple(getattr(patcher.model, name, None) for name in (
        "model_lowvram", "lowvram_patch_counter", "model_loaded_weight_memory", "current_weight_patches_uuid"))


def weight_addresses(module):
    """Where a module's weights lie."""
    return tuple(tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers()))


def why_not_machine(options):
    """Why nothing can be replayed here, in words, or None. options: the model_options of ComfyUI's guider."""
    cuda = graphs.backend.cuda
    if torch.version.hip:
        return "the GPU is one of AMD's, on which replay has not been tried"
    if not cuda.is_available():
        return "there is no NVIDIA GPU"
    if "multigpu_clones" in options:
        return "ComfyUI samples on several GPUs at once"
    if cuda.get_allocator_backend() != "native" and not CUDA_MALLOC_ASYNC_IS_PROVED:
        return ("ComfyUI uses the memory allocator cudaMallocAsync, with which replay has not been tried (start ComfyUI with "
                "--disable-cuda-malloc to use replay)")
    return None


def why_not_module(name, module, patcher):
    """Why a module cannot be captured as it is loaded now, in words, or None. name: what users know it by."""
    dynamic = is_dynamic(patcher)
    if dynamic and not DYNAMIC_VRAM_IS_PROVED:
        return ("ComfyUI loads weights while the model runs (dynamic VRAM), with which replay has not been tried (start "
                "ComfyUI with --disable-dynamic-vram to use replay)")
    parts = list(module.modules())
    if any(hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None for part in parts):
        return f"torch.compile wraps {name}, or a part of it"
    if any("forward" in vars(part) or any(getattr(part, hooks, None) for hooks in HOOKS) for part in parts):
        return f"another pack has changed how {name} is computed"
    if patcher.hook_patches or patcher.forced_hooks:
        return f"hooks may change the weights of {name} while it runs"
    if any(type(weight) not in (torch.nn.Parameter, torch.Tensor) for weight in module.parameters()):
        return f"{name} has weights of a kind of their own (quantised)"
    # dynamic VRAM leaves the parameters of a part with `_v` where they are, and computes with copies on the GPU
    resident = [weight for part in parts if not (dynamic and hasattr(part, "_v")) for weight in part.parameters(recurse=False)]
    if any(weight.device.type != graphs.backend.device_type for weight in resident):
        return f"the weights of {name} are not all on the GPU"
    if any(hasattr(part, "prev_comfy_cast_weights") or getattr(part, "weight_function", None)
           or getattr(part, "bias_function", None) for part in parts):
        return f"ComfyUI casts or patches the weights of {name} while it runs (low VRAM)"
    return None


def is_dynamic(patcher):
    """Whether ComfyUI's dynamic VRAM loads the weights of a model."""
    return getattr(patcher, "is_dynamic", bool)()


def why_not_options(options):
    """Why a UNet call with these transformer_options cannot be replayed, in words, or None."""
    patches = options.get("patches_replace", {}).get("attn2", {}).values()
    if any(isinstance(term, FusedTerm) for patch in patches if isinstance(patch, AttentionPatch) for term in patch.terms):
        return 'the attention is "fused", which cannot be replayed (choose "exact" in InstantID Options to use replay)'
    for name in foreign_parts(options):
        return f"another pack's part in the model ({name}) may do something else at each step"
    return None


def foreign_parts(options):
    """Names of what other packs have put into these transformer_options."""
    yield from (str(key) for key, wrappers in options.get("wrappers", {}).get("diffusion_model", {}).items()
                if key not in (KEY, REPLAY_KEY) and wrappers)
    yield from (key for key in options if key not in KNOWN_OPTIONS)
    yield from (kind for kind, patches in options.get("patches", {}).items() if patches)
    for kind, patches in options.get("patches_replace", {}).items():
        yield from (f"{kind} at {key}" for key, patch in patches.items() if not isinstance(patch, AttentionPatch)
                    or patch.base is not None or any(isinstance(term, ForeignTerm) for term in patch.terms))
