"""Nodes that ComfyUI runs again after each of a user's moves, and the original's stand-in on a real server."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import COMFYUI
from oracle import fixtures as fx
from photos import write_image
from serving import miniature
from serving.demo_workflow import node
from serving.server import Server

from benchmarks.baseline import STAND_IN
from benchmarks.stages.rerun import MOVES, play, workflow


@pytest.fixture(scope="module")
def runs(client, photo):
    """{move: Run} of one round on ours."""
    return play(client, workflow(photo, miniature.ADAPTER), 0, fx.portrait("b"))


@pytest.mark.parametrize("move, nodes", [
    ("same again", set()),
    ("new seed", {"sample", "save"}),
    ("new weight", {"apply", "sample", "save"}),
    ("new window", {"apply", "sample", "save"}),
    ("new photo", {"photo", "apply", "sample", "save"}),
])
def test_nodes_that_a_move_has_run_again(runs, move, nodes):
    assert set(runs[move].seconds) == nodes


def test_every_move_is_played(runs):
    assert set(MOVES) <= set(runs)
    assert "apply" in runs["photo back"].seconds and "apply" in runs["another workflow and back"].seconds
    assert "apply" not in runs["another workflow"].seconds


@pytest.mark.newest
def test_widgets_that_are_links_do_not_run_the_workflow_again(client, photo):
    """An exception in IS_CHANGED, which gets None for a link, counts as a change: everything ran again."""
    person = {"analysis": node("InstantIDFaceAnalysis", provider="CPU"), "photo": node("LoadImage", image=photo),
              "person": node("InstantIDPerson", insightface=["analysis", 0], image=["photo", 0]),
              "save": node("InstantIDSavePerson", person=["person", 0], name="linked", keep_crops=False, if_exists="replace")}
    client.queue(person)
    linked = workflow(photo, miniature.ADAPTER)
    for name, inputs, kind, file in (("adapter", "instantid_file", "InstantIDModelLoader", miniature.ADAPTER),
                                     ("loaded", "person", "InstantIDLoadPerson", "linked.safetensors"),
                                     ("analysis", "provider", "InstantIDFaceAnalysis", "CPU")):
        linked[f"{name} name"] = node("ComfySwitchNode", switch=True, on_true=file, on_false="")
        linked[name] = node(kind, **{inputs: [f"{name} name", 0]})
    linked["shown"] = node("PreviewAny", source=["loaded", 0])
    client.queue(linked)
    assert not client.queue(linked).seconds


@pytest.mark.newest
def test_the_stand_in_gives_the_same_latent(client, photo, tmp_path):
    def latent(of, name):
        saved, = of.queue(workflow(name, miniature.ADAPTER)).outputs["save"]["latents"]
        return safetensors.torch.load(of.file(saved))["latent_tensor"]
    with Server(Path(COMFYUI), cpu=True, log=tmp_path / "log", pack=STAND_IN) as server:
        name = server.client.upload_image(write_image(tmp_path / "portrait.png", fx.portrait("a")))
        assert torch.equal(latent(server.client, name), latent(client, photo))
