"""SDXL, its IdentityNet and an adapter with random weights, at full size or as the tests' miniature."""

import contextlib
import sys
from unittest import mock

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch
from oracle import fixtures as fx

SIZES = {"full": {"model_channels": 320, "num_head_channels": 64}, "miniature": {}}


def unet(size, device, dtype):
    """ModelPatcher around an SDXL without trained weights; the miniature is the oracle's."""
    def build(place):
        config = comfy.supported_models.SDXL({**fx.SDXL_MINI, **SIZES[size]})
        config.set_inference_dtype(dtype, None)
        return comfy.model_base.SDXL(config, device=place)

    with _filled_layers():
        filled = fx.mini_sdxl(device, dtype).model if size == "miniature" else _fill(build(device))
    model = build(_place(device))
    _load(model.diffusion_model, filled.diffusion_model, _place(device))
    return _patcher_class()(model.eval(), load_device=device, offload_device=torch.device("cpu"))


def identity_net(size, device, dtype):
    """comfy.controlnet.ControlNet of the same shape."""
    config = {**{key: value for key, value in fx.SDXL_MINI.items() if key not in (
        "out_channels", "transformer_depth_output", "use_temporal_attention")}, **SIZES[size]}

    def build(place):
        return comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=dtype, device=place,
                                          operations=comfy.ops.disable_weight_init)

    with _filled_layers():
        filled = fx.mini_identity_net(device, dtype).control_model if size == "miniature" else _fill(build(device))
    net = build(_place(device))
    _load(net, filled, _place(device))
    return comfy.controlnet.ControlNet(net.eval(), load_device=device, manual_cast_dtype=None)


def _patcher_class():
    """What ComfyUI wraps its own models in; older versions have one class only."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def _filled_layers():
    """A context in which layers have weights as soon as they are made. Under dynamic VRAM they get them from a state dict."""
    memory = sys.modules.get("comfy.memory_management")  # older versions of ComfyUI have none
    return mock.patch.object(memory, "aimdo_enabled", False) if memory else contextlib.nullcontext()


def _place(device):
    """Where ComfyUI wants a module before it loads it: dynamic VRAM copies weights from the CPU's memory."""
    return device if _patcher_class() is comfy.model_patcher.ModelPatcher else torch.device("cpu")


def _load(module, filled, place):
    """Gives a module the weights of another one of its kind, as ComfyUI gives it a file's."""
    module.load_state_dict({name: weight.to(place) for name, weight in filled.state_dict().items()}, assign=True)


def adapter_channels(size):
    return SIZES[size].get("model_channels", fx.CHANNELS)


@torch.no_grad()
def _fill(module):
    """Random weights where they lie: matrices scaled by fan-in, so that activations stay in range."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.7 / parameter[0].numel() ** 0.5)
        else:
            parameter.fill_(float(name.endswith("weight")))
    return module
