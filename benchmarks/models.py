"""SDXL, its IdentityNet and an adapter with random weights, at full size or as the tests' miniature."""

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
    """ModelPatcher around an SDXL without trained weights."""
    config = comfy.supported_models.SDXL({**fx.SDXL_MINI, **SIZES[size]})
    config.set_inference_dtype(dtype, None)
    model = comfy.model_base.SDXL(config, device=device)
    _fill(model.diffusion_model)
    return _patcher_class()(_placed(model.eval()), load_device=device, offload_device=torch.device("cpu"))


def identity_net(size, device, dtype):
    """comfy.controlnet.ControlNet of the same shape."""
    config = {**{key: value for key, value in fx.SDXL_MINI.items() if key not in (
        "out_channels", "transformer_depth_output", "use_temporal_attention")}, **SIZES[size]}
    net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=dtype, device=device,
                                     operations=comfy.ops.disable_weight_init)
    _fill(net)
    return comfy.controlnet.ControlNet(_placed(net.eval()), load_device=device, manual_cast_dtype=None)


def _patcher_class():
    """What ComfyUI wraps its own models in; older versions have one class only."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def _placed(module):
    """A module where ComfyUI wants it before it loads it: dynamic VRAM copies weights from the CPU's memory."""
    return module if _patcher_class() is comfy.model_patcher.ModelPatcher else module.to("cpu")


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
