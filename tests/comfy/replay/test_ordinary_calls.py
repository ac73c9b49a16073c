"""Where a graph could be wrong the ordinary call runs, and the reason is told."""

import logging
from types import SimpleNamespace

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from instantid_swift.CrossAttentionPatch import KEY, AttentionPatch
from instantid_swift.host import server
from instantid_swift.replay import calls, graphs
from oracle import cases
from oracle import fixtures as fx
from replayed import SMALL, apply, captured, line, pair, said


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


@pytest.mark.parametrize("name", ["attn2 at ('input', 4, 0)", "output_block_patch", "theirs", "their option",
                                  "attn2 at ('input', 4, 0) "])
def test_other_packs_parts(nodes, world, caplog, name):
    with caplog.at_level(logging.INFO):
        assert torch.equal(*pair(nodes, world, model=foreign(world)[name]))
    assert said(caplog) == [line(f"another pack's part in the model ({name.strip()}) may do something else at each step")]
    assert captured() == 1, "IdentityNet alone"


def test_reasons_are_told_once_a_sampling_on_the_node(nodes, world, caplog, monkeypatch):
    on_node, wired = [], apply(nodes, world, model=foreign(world)["theirs"], replay=True)
    monkeypatch.setattr(server, "say_on_node", on_node.append)
    for _ in range(2):
        fx.sample(*wired, **SMALL)
    assert len(on_node) == 2 and f"InstantID: {on_node[0]}" == line(
        "another pack's part in the model (theirs) may do something else at each step")


@pytest.mark.newest
def test_fused_terms_run_fused(nodes, world, caplog):
    """Not as exact ones without a word."""
    with caplog.at_level(logging.INFO):
        assert torch.equal(*pair(nodes, world, attention="fused"))
    assert said(caplog) == [line('the attention is "fused", which cannot be replayed (choose "exact" in InstantID Options to '
                                 'use replay)')]
    assert captured() == 1, "IdentityNet alone"


def test_conditioning_without_its_model(nodes, world, caplog):
    model, *_ = apply(nodes, world)
    _, positive, negative = apply(nodes, world, replay=True)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            fx.sample(model, positive, negative, **SMALL)
    assert said(caplog) == [line("the CONDITIONING of InstantID Replay is sampled without its MODEL")] and captured() == 0


def test_no_room(nodes, world, caplog, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 1e15)
    with caplog.at_level(logging.INFO):
        latents = [fx.sample(*apply(nodes, world, replay=True), **SMALL)]
    monkeypatch.undo()
    latents.append(fx.sample(*cases.apply(nodes, world), **SMALL))
    assert torch.equal(*latents) and captured() == 0
    assert said(caplog) and all("reserve is 1000000.0 GB" in text for text in said(caplog))


def test_under_torch_compile_the_wrapper_steps_aside():
    options = {"wrappers": {"diffusion_model": {KEY: [1], calls.REPLAY_KEY: [2]}}, "cond_or_uncond": [0]}
    assert calls.ReplayedUNet(None).for_call(options, SimpleNamespace(replayed=False), None) == {
        "wrappers": {"diffusion_model": {KEY: [1]}}, "cond_or_uncond": [0]}


def test_called_from_elsewhere(nodes, world, caplog):
    model, *_ = apply(nodes, world, replay=True)
    replayed = model.model_options["transformer_options"][calls.REPLAY_KEY]
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert not replayed.allows(model.model, {}, compiled=False)
        assert calls.replay_unet(lambda *args, **kwargs: args[0], 7, 0, transformer_options={calls.REPLAY_KEY: replayed}) == 7
    assert said(caplog) == [line("the UNet was not called through ComfyUI's sampling")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda(nodes, world, caplog, monkeypatch):
    monkeypatch.setattr(graphs, "backend", graphs.CudaGraph)
    with caplog.at_level(logging.INFO):
        assert torch.equal(*pair(nodes, world))
    assert said(caplog) == [line("there is no NVIDIA GPU")]
