"""Sampling replayed: the same latents to the last bit, few captures, and the ordinary call wherever a graph could be wrong.

Recordings (tests/recorded.py) stand for CUDA graphs; the tests of the GPU's own run where there is one.
"""

import gc
import logging
from types import SimpleNamespace

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from instantid_swift.CrossAttentionPatch import KEY, AttentionPatch
from instantid_swift.host import server
from instantid_swift.options import Options
from instantid_swift.replay import graphs, unet
from instantid_swift.replay.memory import CapturesAsModel
from oracle import cases
from oracle import fixtures as fx
from stand_ins.recorded import Recordings

SMALL = {"steps": 3, "size": (8, 8)}


@pytest.fixture(autouse=True)
def recordings(monkeypatch):
    """Nothing captured, nothing said before."""
    monkeypatch.setattr(graphs, "backend", Recordings)
    graphs.drop_all()
    graphs._of_modules.clear()
    graphs.log_fallback.cache_clear()


def captured():
    """How many captures were made, of the UNet and of IdentityNet together."""
    return sum(replays.captured for replays in graphs._of_modules.values())


def apply(nodes, world, replay=False, attention="exact", **over):
    """Apply InstantID, and InstantID Replay after it where wanted."""
    wired = cases.apply(nodes, world, options=Options(attention=attention), **over)
    return cases.call(nodes, "InstantIDReplay", **dict(zip(("model", "positive", "negative"), wired, strict=True))) \
        if replay else wired


def pair(nodes, world, sampling=None, **over):
    """(latents of an ordinary run, latents of a replayed one)."""
    sampling = {**SMALL, **(sampling or {})}
    return [fx.sample(*apply(nodes, world, replay, **over), **sampling) for replay in (False, True)]


# ---- the same latents


def test_another_weight_identity_and_seed_need_no_other_capture(nodes, world):
    for over, sampling in (({}, {}), ({"weight": 0.3}, {}), ({"image": fx.portrait("b")}, {}), ({}, {"seed": 8}),
                           ({"weight": 1.1, "image": fx.portrait("d")}, {"seed": 9})):
        assert torch.equal(*pair(nodes, world, sampling, **over))
    assert captured() == 2, "one of the UNet, one of IdentityNet"


@pytest.mark.parametrize("dtype, over, sampling", [
    (torch.float16, {"weight": 0.37}, {}),
    (torch.bfloat16, {"weight": 0.37}, {}),
    (torch.float32, {"start_at": 0.3, "end_at": 0.8}, {"steps": 6}),
    (torch.float32, {"mask": cases.left_half()}, {"batch": 2}),
    (torch.float32, {"attention": "fused"}, {"cfg": 1.0}),
])
def test_latents_are_the_same(nodes, world, dtype, over, sampling):
    """Rounding of the weight, windows, masks, batches."""
    model = world.model if dtype == torch.float32 else fx.mini_sdxl(dtype=dtype)
    assert torch.equal(*pair(nodes, world, sampling, model=model, **over))
    assert captured() >= 2


def test_two_identities_behind_each_other(nodes, world):
    latents = []
    for replay in (False, True):
        model, positive, negative = cases.apply(nodes, world, mask=cases.left_half())
        latents.append(fx.sample(*apply(nodes, world, model=model, positive=positive, negative=negative,
                                        image=fx.portrait("b"), replay=replay), **SMALL))
    assert torch.equal(*latents)
    assert captured() == 2, "both IdentityNets are one layout of the same weights"


def test_a_model_without_an_identity(nodes, world):
    replayed, *_ = cases.call(nodes, "InstantIDReplay", model=world.model, positive=[], negative=[])
    assert torch.equal(*(fx.sample(model, world.positive, world.negative, **SMALL) for model in (world.model, replayed)))
    assert captured() == 1


def test_what_is_given_is_not_changed(nodes, world):
    wired = cases.apply(nodes, world)
    control = wired[1][0][1]["control"]
    before = dict(control.__dict__), dict(wired[1][0][1]), dict(wired[0].model_options["transformer_options"])
    model, positive, _ = cases.call(nodes, "InstantIDReplay", model=wired[0], positive=wired[1], negative=wired[2])
    assert (control.__dict__, wired[1][0][1], wired[0].model_options["transformer_options"]) == before
    assert positive[0][1]["control"] is not control and model is not wired[0]


# ---- captures come and go


def test_other_weights_are_captured_anew(nodes, world):
    key = "diffusion_model.input_blocks.4.1.proj_in.weight"
    model = world.model.clone()
    model.add_patches({key: ("diff", (torch.full_like(model.model.state_dict()[key], 0.01),))})
    plain, patched = pair(nodes, world), pair(nodes, world, model=model)
    assert torch.equal(*plain) and torch.equal(*patched) and not torch.equal(plain[0], patched[0])
    again = pair(nodes, world)
    assert torch.equal(*again) and torch.equal(again[0], plain[0])
    assert captured() == 4, "IdentityNet's weights have not moved"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_sampling_drops_captures(nodes, world, error):
    model, positive, negative = apply(nodes, world, replay=True)
    calls = []

    def fail(executor, *args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise error
        return executor(*args, **kwargs)
    broken = model.clone()
    broken.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", fail)
    with pytest.raises(error):
        fx.sample(broken, positive, negative, **{**SMALL, "steps": 6})
    assert captured() == 2 and graphs.statistics()["captures"] == 0
    assert torch.equal(*pair(nodes, world))


def test_captures_go_on_request_and_with_the_model(nodes, world):
    model = fx.mini_sdxl()

    def run(model):
        """As ComfyUI does: what the run before had made is gone when this one's is made."""
        fx.sample(*apply(nodes, world, model=model, replay=True), **SMALL)
        gc.collect()
        return graphs.statistics()["captures"]
    assert run(model) == 2
    server.release_memory()
    assert graphs.statistics() == {"captures": 0, "bytes": 0}
    assert run(model) == 2
    del model
    comfy.model_management.cleanup_models_gc()
    gc.collect()
    assert graphs.statistics()["captures"] == 1, "IdentityNet's belong to IdentityNet"


def test_comfyui_counts_captures_and_takes_their_memory_back(nodes, world):
    pair(nodes, world)
    loaded = [model for model in comfy.model_management.current_loaded_models if isinstance(model.model, CapturesAsModel)]
    assert sum(model.model_memory() for model in loaded) == graphs.statistics()["bytes"] > 0
    del loaded
    comfy.model_management.unload_all_models()  # what a lack of memory does as well
    assert graphs.statistics()["captures"] == 0
    assert torch.equal(*pair(nodes, world))
    assert graphs.statistics()["captures"] == 2


# ---- where a graph could be wrong


def said(caplog):
    lines = [record.getMessage() for record in caplog.records if "no replay" in record.getMessage()]
    assert len(lines) == len(set(lines))
    return lines


def foreign(world):
    """Models after other packs' nodes, by what they did."""
    def attention(q, k, v, extra_options):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def model():
        return world.model.clone()
    replaced, patched, wrapped, optioned, added = (model() for _ in range(5))
    replaced.set_model_attn2_replace(attention, "input", 4, 0)
    patched.set_model_output_block_patch(lambda h, skip, options: (h, skip))
    wrapped.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "theirs", lambda executor, *args, **more: executor(*args, **more))
    optioned.model_options["transformer_options"]["their option"] = 1
    term = AttentionPatch()
    term.add(lambda out, *args, **kwargs: out * 0, sigma_start=9e9, sigma_end=0.0)
    added.set_model_attn2_replace(term, "input", 4, 0)
    return {"attn2 at ('input', 4, 0)": replaced, "output_block_patch": patched, "theirs": wrapped, "their option": optioned,
            "attn2 at ('input', 4, 0) ": added}


@pytest.mark.parametrize("number, name", enumerate(["attn2 at ('input', 4, 0)", "output_block_patch", "theirs", "their option",
                                                    "attn2 at ('input', 4, 0) "]))
def test_other_packs_parts(nodes, world, caplog, number, name):
    with caplog.at_level(logging.INFO):
        assert torch.equal(*pair(nodes, world, model=foreign(world)[name]))
    assert said(caplog) == [f"InstantID: no replay: another pack's part in the model ({name.strip()}) may do something else at "
                            "each step. The ordinary calls run instead."]
    assert captured() == 1, "IdentityNet alone"


def test_other_packs_parts_are_captured_if_they_are_trusted(nodes, world):
    """Each for itself: a graph that holds one of them is not used for another."""
    latents = []
    for scale in (1, 1.5, 2):
        model = world.model.clone()
        model.set_model_output_block_patch(lambda h, skip, options, scale=scale: (h * scale, skip))
        model, positive, negative = cases.apply(nodes, world, model=model)
        replayed, *_ = cases.call(nodes, "InstantIDReplay", model=model, positive=[], negative=[], trust_other_patches=True)
        latents += [fx.sample(m, positive, negative, **SMALL) for m in (model, replayed)]
        assert torch.equal(*latents[-2:])
    assert captured() == 3 and not torch.equal(latents[0], latents[2])


def test_a_trusted_part_that_reads_the_device(nodes, world, caplog):
    """As the original's own patches did, seventy times a step: then the capture fails, and nothing else."""
    model = world.model.clone()
    model.set_model_output_block_patch(lambda h, skip, options: (h * (options["sigmas"][0].item() > 0), skip))
    model, positive, negative = cases.apply(nodes, world, model=model)
    replayed, *_ = cases.call(nodes, "InstantIDReplay", model=model, positive=[], negative=[], trust_other_patches=True)
    with caplog.at_level(logging.INFO):
        assert torch.equal(*(fx.sample(m, positive, negative, **SMALL) for m in (model, replayed)))
    line, = said(caplog)
    assert "the capture failed (operation not permitted" in line and captured() == 0


def test_hooks(world):
    model = world.model.clone()
    model.hook_patches = {"a hook": {}}
    reason = unet.check_model(SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2), current_patcher=model), None)
    assert reason == "hooks may change the model's weights while it runs"


def test_no_room(nodes, world, caplog, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 1e15)
    with caplog.at_level(logging.INFO):
        latents = [fx.sample(*apply(nodes, world, replay=True), **SMALL)]
    monkeypatch.undo()
    latents.append(fx.sample(*cases.apply(nodes, world), **SMALL))
    assert torch.equal(*latents) and captured() == 0
    assert said(caplog) and all("reserve is 1000000.0 GB" in line for line in said(caplog))


def test_under_torch_compile_the_wrapper_steps_aside(nodes, world, caplog):
    options = {"wrappers": {"diffusion_model": {KEY: [1], unet.REPLAY_KEY: [2]}}, "cond_or_uncond": [0]}
    with caplog.at_level(logging.INFO):
        assert unet.Settings(None, False).for_call(options, SimpleNamespace(replayed=False), None) == {
            "wrappers": {"diffusion_model": {KEY: [1]}}, "cond_or_uncond": [0]}
    assert "torch.compile wraps the model" in said(caplog)[0]


def test_called_from_elsewhere(caplog):
    with caplog.at_level(logging.INFO):
        assert unet.replay_call(lambda *args, **kwargs: args[0], 7, 0, transformer_options={}) == 7
    assert "the UNet was not called through ComfyUI's sampling" in said(caplog)[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda(nodes, world, caplog, monkeypatch):
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraphs)
    with caplog.at_level(logging.INFO):
        assert torch.equal(*pair(nodes, world))
    assert sorted(said(caplog)) == [f"InstantID: no replay: {part}there is no CUDA device. The ordinary calls run instead."
                                    for part in ("IdentityNet: ", "")]


# ---- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_graphs(nodes, world, monkeypatch):
    """Sizes, weights, identities and windows in turn; afterwards memory is where it began."""
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraphs)
    device = torch.device("cuda")
    model, net = fx.mini_sdxl(device, torch.float16), fx.mini_identity_net(device, torch.float16)
    before = torch.cuda.memory_allocated()
    for number in range(50):
        over = {"weight": 0.3 + number % 7 / 10, "image": fx.portrait("abd"[number % 3]), "start_at": number % 2 / 4}
        size = (16, 8) if number % 5 == 4 else (8, 8)
        assert torch.equal(*pair(nodes, world, {"size": size}, model=model, control_net=net, **over))
    server.release_memory()
    gc.collect()
    assert torch.cuda.memory_allocated() <= before
