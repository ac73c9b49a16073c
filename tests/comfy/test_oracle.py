"""The same workflows give the same pictures as the original pack, on every supported version of ComfyUI."""

import sys

import pytest
import torch
from oracle import cases
from oracle import fixtures as fx


@pytest.fixture(scope="module")
def world(full_world):
    """With texts as long as real ones, which the expected pictures were made of."""
    return cases.World(**{**vars(full_world), "positive": fx.conditioning(11), "negative": fx.conditioning(12)})


@pytest.fixture(scope="module")
def close(pytestconfig):
    """close(ours, expected) holds the contract's bar, 1e-4 of the expected tensor's standard deviation. The largest difference
    of all is printed at the end."""
    differences = []

    def check(ours, expected):
        assert ours.shape == expected.shape
        differences.append(float((ours - expected).abs().max() / expected.std()))
        assert differences[-1] <= 1e-4

    yield check
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\nOracle: {len(differences)} tensors, largest difference {max(differences, default=0.0)} of the "
                         "standard deviation.\n")


@pytest.mark.parametrize("name", cases.CASES)
def test_latents(name, nodes, world, expected, close):
    with torch.inference_mode():
        close(cases.CASES[name](nodes, world), expected[name])


def test_drawn_keypoints(nodes, world, expected):
    for name, image in cases.keypoint_images(nodes, world).items():
        assert torch.equal((image * 255).round().to(torch.uint8), expected[f"keypoints.{name}"]), name


def test_identity_tokens(nodes, world, expected, close):
    for name, embeds in cases.face_embeds(nodes, world).items():
        for side in ("cond", "uncond"):
            close(embeds[side], expected[f"embeds.{name}.{side}"])
