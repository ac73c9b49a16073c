"""Sampling replayed: the same latents to the last bit, and few captures.

Recordings (stand_ins/recorded.py) stand for CUDA graphs; the test of the GPU's own runs where there is one.
"""

import gc

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from instantid_swift.host import server
from instantid_swift.replay import graphs
from instantid_swift.replay.memory import CapturesAsModel, count
from oracle import cases
from oracle import fixtures as fx
from replayed import SMALL, apply, captured, pair

# ---- the same latents


@pytest.mark.newest
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
    (torch.float32, {}, {"cfg": 1.0}),
])
def test_latents_are_the_same(nodes, world, loaded, dtype, over, sampling):
    """Rounding of the weight, windows, masks, batches."""
    assert torch.equal(*pair(nodes, world, sampling, model=loaded(dtype)[0], **over))
    assert captured() >= 2


@pytest.mark.newest
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


@pytest.mark.newest
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


@pytest.mark.newest
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


@pytest.mark.newest
def test_captures_go_on_request_and_with_the_model(nodes, world):
    model = fx.mini_sdxl()

    def run(model):
        """As ComfyUI does: what the run before had made is gone when this one's is made."""
        fx.sample(*apply(nodes, world, model=model, replay=True), **SMALL)
        gc.collect()
        return graphs.statistics()["captures"]
    assert run(model) == 2
    made = captured()
    server.release_memory()
    assert run(model) == 2 and captured() == made + 2, "dropped before the next sampling, and made anew"
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


def test_counting_a_capture_unloads_nothing(monkeypatch):
    """For a model that it loads ComfyUI makes room, which captures already have: it would unload the UNet being sampled."""
    device = torch.device("cpu", 0)  # which ComfyUI does not take for the CPU
    module = torch.nn.Sequential(*(comfy.ops.manual_cast.Linear(64, 64) for _ in range(40)))
    unet = comfy.model_patcher.ModelPatcher(module, device, torch.device("cpu"))
    free = [1e12]
    monkeypatch.setattr(comfy.model_management, "get_free_memory",
                        lambda device, torch_free_too=False: (free[0], 0) if torch_free_too else free[0])
    comfy.model_management.load_models_gpu([unet])
    whole = unet.loaded_size()
    replays = graphs.replays_of(module)
    for _ in range(2):
        replays.run(lambda changing, fixed: changing[0] + 1, (torch.ones(1000),), ())
    free[0] = 0
    for _ in range(2):
        count(replays, device)
        models = [model.model for model in comfy.model_management.current_loaded_models]
        assert models.count(replays.memory_patcher) == 1 and unet.loaded_size() == whole > 0 and replays.count == 1
    comfy.model_management.current_loaded_models.pop(models.index(replays.memory_patcher))
    comfy.model_management.load_models_gpu([CapturesAsModel(replays, device)])  # as it was done before
    assert unet.loaded_size() < whole


def test_captures_go_before_the_unet(nodes, world, monkeypatch):
    pair(nodes, world)
    unet = next(model for model in comfy.model_management.current_loaded_models if model.model.model is world.model.model)
    before, held = unet.model_loaded_memory(), graphs.statistics()["bytes"]
    free = [1e9]
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device, torch_free_too=False: (
        free[0] - graphs.statistics()["bytes"],) * 2 if torch_free_too else free[0] - graphs.statistics()["bytes"])
    comfy.model_management.free_memory(1e9 - held / 2, torch.device("cpu"))
    assert graphs.statistics()["captures"] < 2 and unet.model_loaded_memory() == before > 0


@pytest.mark.newest
@pytest.mark.parametrize("change", [{"model_loaded_weight_memory": 1}, {"model_lowvram": True},
                                    {"current_weight_patches_uuid": "another"}])
def test_weights_that_change_during_a_sampling_are_looked_at_again(nodes, world, change):
    """Another pack may load a model between two steps: then ComfyUI unloads some of the UNet."""
    plain, counts = fx.mini_sdxl(), []
    model, positive, negative = apply(nodes, world, model=plain, replay=True)

    def between(executor, *args, **kwargs):
        counts.append(captured())
        if len(counts) == 4:
            vars(model.model).update(change)
            weight = model.model.diffusion_model.out[2].weight
            weight.data = weight.data.clone()  # lies elsewhere
        return executor(*args, **kwargs)
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", between)
    latents = fx.sample(watched, positive, negative, **{**SMALL, "steps": 6})
    assert counts == [0, 0, 2, 2, 2, 3], "the UNet's is made anew"
    assert torch.equal(latents, fx.sample(*apply(nodes, world, model=plain), **{**SMALL, "steps": 6}))


@pytest.mark.newest
def test_a_request_to_free_memory_in_the_middle_of_a_sampling_waits(nodes, world, cuda):
    model, positive, negative = apply(nodes, world, replay=True)
    steps = []

    def between(executor, *args, **kwargs):
        steps.append(cuda.events.count("reset"))
        if len(steps) == 3:
            server.release_memory()
        return executor(*args, **kwargs)
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", between)
    latents = fx.sample(watched, positive, negative, **{**SMALL, "steps": 5})
    assert steps == [0] * 5 and cuda.events.count("reset") == 0
    assert torch.equal(latents, fx.sample(*apply(nodes, world), **{**SMALL, "steps": 5}))


@pytest.mark.newest
def test_cancel_inside_a_capture_and_then_a_right_picture(nodes, world, cuda):
    """As when ComfyUI's Cancel button is pressed while the UNet is captured."""
    plain = fx.mini_sdxl()
    model, positive, negative = apply(nodes, world, model=plain, replay=True)
    middle = model.model.diffusion_model.middle_block

    class Interrupts(torch.nn.Module):
        def forward(self, x):
            if cuda.capturing:
                made = x * 2
                raise comfy.model_management.InterruptProcessingException(str(len(made)))
            return x
    middle.append(Interrupts())
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        fx.sample(model, positive, negative, **SMALL)
    assert graphs.statistics()["captures"] == 0 and cuda.faults == []
    del middle[-1]
    assert torch.equal(*pair(nodes, world, model=plain))


# ---- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_graphs(nodes, world, monkeypatch):
    """Sizes, weights, identities and windows in turn; afterwards memory is where it began."""
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraph)
    device = torch.device("cuda")
    model, net = fx.mini_sdxl(device, torch.float16), fx.mini_identity_net(device, torch.float16)
    before = torch.cuda.memory_allocated()
    for number in range(50):
        over = {"weight": 0.3 + number % 7 / 10, "image": fx.portrait("abd"[number % 3]), "start_at": number % 2 / 4}
        size = (16, 8) if number % 5 == 4 else (8, 8)
        assert torch.equal(*pair(nodes, world, {"size": size}, model=model, control_net=net, **over))
    server.release_memory()
    graphs.drop_now(only_if_requested=True)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before
