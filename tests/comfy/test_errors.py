"""What fails, fails before the sampling, in a sentence that says what was found and what to do."""

import os
import re
import sys
import types

import pytest
import safetensors.torch
import torch
from instantid_swift.identity import adapter
from instantid_swift.utils import InstantIDError
from messages import one_sentence_of_advice
from oracle import cases
from oracle import fixtures as fx

# ---- models


def a_model(kind, **config):
    """A ModelPatcher around a UNet or transformer without weights, as ComfyUI builds it for another family."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams
    if kind == "Flux" and "txt_ids_dims" in FluxParams.__dataclass_fields__:
        config = {**config, "txt_ids_dims": []}  # newer versions of ComfyUI want it
    settings = getattr(comfy.supported_models, kind)(config)
    settings.set_inference_dtype(torch.float32, None)
    with torch.device("meta"):
        base = {"SD15": comfy.model_base.BaseModel, "SDXLRefiner": comfy.model_base.SDXLRefiner,
                "SDXL": comfy.model_base.SDXL, "Flux": comfy.model_base.Flux}[kind]
        model = base(settings, device=torch.device("meta"))
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


UNET = dict(image_size=32, in_channels=4, out_channels=4, use_spatial_transformer=True, legacy=False,
            num_res_blocks=[2, 2, 2, 2], channel_mult=[1, 2, 4, 4], use_temporal_attention=False, transformer_depth_middle=1,
            transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0], transformer_depth_output=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
SD15 = dict(UNET, model_channels=320, context_dim=768, num_heads=8, num_head_channels=-1, use_linear_in_transformer=False)
FLUX = dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=256,
            mlp_ratio=4.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
            qkv_bias=True, guidance_embed=False)
NARROW_SDXL = dict(fx.SDXL_MINI, model_channels=64)


@pytest.mark.parametrize("kind, config, found", [
    ("SD15", SD15, "The model is SD15, whose cross-attention in input block 4"),
    ("Flux", FLUX, "The model is Flux, which has none of SDXL's cross-attention blocks"),
    ("SDXL", NARROW_SDXL, "is 128 wide where the InstantID adapter needs 64"),
])
def test_a_model_that_is_not_sdxl(nodes, world, kind, config, found):
    """Unchecked, SD 1.5 crashes in the sampler, and Flux gives a picture without the person."""
    model = a_model(kind, **config)
    for node in (cases.apply, cases.advanced, cases.patch):
        with pytest.raises(InstantIDError) as error:
            node(nodes, world, model=model)
        text = one_sentence_of_advice(error)
        assert found in text and "SDXL checkpoints only: connect one" in text


# ---- ControlNets


def sd15_control_net():
    import comfy.cldm.cldm
    import comfy.controlnet
    config = {k: v for k, v in SD15.items() if k not in ("out_channels", "transformer_depth_output", "use_temporal_attention")}
    with torch.device("meta"):
        net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32, device=torch.device("meta"))
    return comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))


def transformer_control_net():
    import comfy.controlnet
    return comfy.controlnet.ControlNet(torch.nn.Linear(1, 1), load_device=torch.device("cpu"))


@pytest.mark.parametrize("net, found", [
    (lambda: None, "There is no ControlNet"),
    (sd15_control_net, "reads a context 768 wide, SDXL's is 2048"),
    (transformer_control_net, "which is not made for SDXL"),
])
def test_a_control_net_that_does_not_fit(nodes, world, net, found):
    calls = [lambda net: cases.apply(nodes, world, control_net=net),
             lambda net: cases.advanced(nodes, world, control_net=net),
             lambda net: cases.call(nodes, "ApplyInstantIDControlNet", face_embeds=embeds, control_net=net,
                                    image_kps=fx.portrait("a"), positive=[], negative=[], strength=1.0, start_at=0.0,
                                    end_at=1.0)]
    embeds = dict.fromkeys(("cond", "uncond"), torch.zeros(1, 16, 2048))
    for call in calls:
        with pytest.raises(InstantIDError) as error:
            call(net())
        text = one_sentence_of_advice(error)
        assert found in text and "Connect InstantID's ControlNet" in text


class OfAnotherPack(torch.nn.Module):
    """An attention module, or a layer, that does not tell its heads and widths."""

    def __init__(self, wrapped):
        super().__init__()
        self.wrapped = wrapped
        for name in ("to_q", "to_k", "to_v", "to_out"):  # ComfyUI's transformer block calls them itself
            if hasattr(wrapped, name):
                setattr(self, name, getattr(wrapped, name))

    def forward(self, *args, **kwargs):
        return self.wrapped(*args, **kwargs)


ATTENTION = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2"


@pytest.mark.parametrize("part", ["", ".to_k"])
def test_attention_modules_of_other_packs_pass_the_check_of_the_model(nodes, world, part):
    """An object patch stands in the model once it has been loaded: the second run ended in an AttributeError."""
    import comfy.utils
    model = world.model.clone()
    inside = comfy.utils.get_attr(model.model, ATTENTION + part)
    model.add_object_patch(ATTENTION + part, OfAnotherPack(inside))
    try:
        plain, first, second = (fx.sample(*cases.apply(nodes, world, model=each), steps=1, size=(8, 8))
                                for each in (world.model, model, model))
    finally:
        model.unpatch_model()
    assert torch.equal(first, plain) and torch.equal(second, plain)


def test_identity_net_and_its_relatives_are_accepted(world):
    from comfy.controlnet import ControlLora, T2IAdapter
    from instantid_swift.controlnet.conditioning import check_control_net
    for net in (world.net, world.net.copy(), ControlLora({}), T2IAdapter(torch.nn.Linear(1, 1), 3, 8, "nearest-exact")):
        check_control_net(net)


# ---- adapter files


def small(**over):
    tensors = {"image_proj.proj_in.weight": torch.zeros(1280, 512), "image_proj.latents": torch.zeros(1, 16, 1280)}
    for n in range(1, 141, 2):
        tensors[f"ip_adapter.{n}.to_k_ip.weight"] = tensors[f"ip_adapter.{n}.to_v_ip.weight"] = torch.zeros(1)
    return {**tensors, **over}


def without(tensors, part):
    return {key: value for key, value in tensors.items() if part not in key}


FILES = {
    "a ControlNet": ({"controlnet_cond_embedding.conv_in.weight": torch.zeros(1)},
                     "It is a ControlNet: put it into .*controlnet"),
    "a ControlNet of the old form": ({"control_model.input_hint_block.0.weight": torch.zeros(1)}, "It is a ControlNet"),
    "an IPAdapter": (without(small(), "proj_in") | {"image_proj.proj.weight": torch.zeros(1)}, "IPAdapter of another kind"),
    "an IPAdapter Plus": (small(**{"image_proj.proj_in.weight": torch.zeros(1280, 1024)}), "IPAdapter of another kind"),
    "a LoRA": ({"lora_unet_down.lora_up.weight": torch.zeros(1)}, "It is a LoRA"),
    "a checkpoint": ({"model.diffusion_model.out.0.weight": torch.zeros(1)}, "It is a checkpoint of a whole model"),
    "something else": ({"weight": torch.zeros(1)}, "no tensors named image_proj and ip_adapter"),
    "an adapter with blocks missing": (without(small(), ".139."), "tensors do not fit InstantID's: Missing key.*"),
    "an adapter with resampler weights missing": (small(), "tensors do not fit InstantID's: Missing key.*"),
}


@pytest.mark.newest
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_adapter(tmp_path, kind):
    tensors, found = FILES[kind]
    path = tmp_path / "wrong.bin"  # told apart by content: users rename files
    safetensors.torch.save_file({key: value.clone() for key, value in tensors.items()}, path)
    with pytest.raises(InstantIDError) as error:
        adapter.load_adapter(str(path))
    text = one_sentence_of_advice(error)
    assert re.match(f"wrong.bin cannot be used as an InstantID adapter. .*{found}", text)
    assert "ip-adapter.bin (1.7 GB)" in text


@pytest.mark.newest
def test_both_forms_of_the_file_hold_the_same(tmp_path, adapter_path, world):
    checkpoint = torch.load(adapter_path, mmap=True)
    flat = {f"{top}.{key}": value for top, half in checkpoint.items() for key, value in half.items()}
    path = tmp_path / "ip-adapter.safetensors"
    safetensors.torch.save_file(flat, path)
    ours = adapter.load_adapter(str(path)).module.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in world.instantid.module.state_dict().items())


@pytest.mark.newest
def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)
    path = tmp_path / "ip-adapter.bin"
    for zipped in (True, False):
        torch.save({"image_proj": Bomb()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(InstantIDError):
            adapter.load_adapter(str(path))
    assert os.listdir(tmp_path) == ["ip-adapter.bin"]


@pytest.mark.newest
def test_the_adapter_of_another_pack_is_refused_with_its_name(nodes, world, tmp_path, monkeypatch):
    """Its loader may have registered the id of ours, and is then the one that runs."""
    module = types.ModuleType("other")
    module.__file__ = str(tmp_path / "custom_nodes" / "ComfyUI_Other" / "__init__.py")
    monkeypatch.setitem(sys.modules, "other", module)
    theirs = type("Theirs", (), {"__module__": "other"})()
    with pytest.raises(InstantIDError) as error:
        cases.apply(nodes, world, instantid=theirs)
    text = one_sentence_of_advice(error)
    assert "a Theirs of ComfyUI_Other, which InstantID Swift cannot use" in text and "Connect InstantID Swift's" in text


def test_a_file_that_has_gone(nodes):
    with pytest.raises(FileNotFoundError, match="gone.bin"):
        cases.call(nodes, "InstantIDModelLoader", instantid_file="gone.bin")
