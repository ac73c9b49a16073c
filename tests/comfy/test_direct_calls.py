"""Calls of our node classes by other packs, as yolain/ComfyUI-Easy-Use makes them: by id and method, positional at first."""

import pytest
import torch
from instantid_swift.options.nodes import DEFAULTS
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest


def test_apply_is_called_by_position(nodes, world):
    keywords = cases.advanced(nodes, world, ip_weight=0.7, cn_strength=0.4, noise=0.2, image_kps=fx.portrait("b"),
                              mask=cases.left_half())
    called = nodes["ApplyInstantID"]().apply_instantid(
        world.instantid, world.analysis, world.net, fx.portrait("a"), world.model, world.positive, world.negative, 0.0, 1.0,
        weight=0.8, ip_weight=0.7, cn_strength=0.4, noise=0.2, image_kps=fx.portrait("b"), mask=cases.left_half(),
        combine_embeds="average")
    assert torch.equal(*(fx.sample(*wired, steps=1, size=(8, 8)) for wired in (keywords, called)))


def test_the_other_nodes_are_called_by_position(nodes, world):
    model, embeds = nodes["InstantIDAttentionPatch"]().patch_attention(
        world.instantid, world.analysis, fx.portrait("a"), world.model, 1.0, 0.0, 1.0, 0.2, None)
    drawn, = nodes["FaceKeypointsPreprocessor"]().preprocess_image(world.analysis, fx.portrait("a"))
    positive, negative = nodes["ApplyInstantIDControlNet"]().apply_controlnet(
        embeds, world.net, drawn, world.positive, world.negative, 0.8, 0.0, 1.0)
    assert fx.sample(model, positive, negative, steps=1, size=(8, 8)).isfinite().all()


def test_the_simple_node_injects_noise_as_ever(nodes, world):
    """0.35 where a caller says nothing: the original's Python default."""
    said = cases.apply(nodes, world, noise=0.35, options=DEFAULTS)
    assert torch.equal(*(wired[2][0][1]["cross_attn_controlnet"] for wired in (said, cases.apply(nodes, world))))
