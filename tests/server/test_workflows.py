"""Workflows over HTTP, as a user queues them: what runs again after each move, and what is refused."""

import pytest
import safetensors.torch
import torch
from oracle import fixtures as fx
from serving import miniature
from serving.client import PromptError
from serving.demo_workflow import changed, node

from benchmarks.stages.rerun import MOVES, play
from benchmarks.stages.rerun import workflow as with_photo

AGAIN = {"same again": set(), "new seed": {"sample", "save"}, "new weight": {"apply", "sample", "save"},
         "new window": {"apply", "sample", "save"}, "new photo": {"photo", "apply", "sample", "save"}}


@pytest.fixture(scope="module")
def workflow(photo):
    """Loaders, Apply InstantID, one sampling step, the latent saved."""
    return with_photo(photo, miniature.ADAPTER)


def latent(client, workflow):
    """The saved latent of a run, and the nodes that ComfyUI did not run again."""
    run = client.queue(workflow)
    saved, = run.outputs["save"]["latents"]
    return safetensors.torch.load(client.file(saved))["latent_tensor"], set(run.cached)


def test_nodes_that_a_move_has_run_again(client, workflow):
    runs = play(client, workflow, 0, fx.portrait("b"))
    assert set(MOVES) <= set(runs)
    assert {move: set(runs[move].seconds) for move in AGAIN} == AGAIN
    assert "apply" in runs["photo back"].seconds and "apply" in runs["another workflow and back"].seconds
    assert "apply" not in runs["another workflow"].seconds


def test_a_slider_is_moved_and_moved_back(client, workflow):
    """ComfyUI keeps the loaders' outputs; ours must not have been changed by the runs in between."""
    first, _ = latent(client, changed(workflow, "sample", seed=1))
    other, cached = latent(client, changed(changed(workflow, "sample", seed=1), "apply", weight=1.3))
    again, _ = latent(client, changed(workflow, "sample", seed=1))
    assert {"checkpoint", "controlnet", "adapter", "analysis", "photo"} <= cached and "apply" not in cached
    assert not torch.equal(first, other)
    assert torch.equal(first, again)


@pytest.mark.newest
def test_widgets_that_are_links_do_not_run_the_workflow_again(client, photo, workflow):
    """An exception in IS_CHANGED, which gets None for a link, counts as a change: everything ran again."""
    person = {"analysis": node("InstantIDFaceAnalysis", provider="CPU"), "photo": node("LoadImage", image=photo),
              "person": node("InstantIDPerson", insightface=["analysis", 0], image=["photo", 0]),
              "save": node("InstantIDSavePerson", person=["person", 0], name="linked", keep_crops=False, if_exists="replace")}
    client.queue(person)
    linked = dict(workflow)
    for name, inputs, kind, file in (("adapter", "instantid_file", "InstantIDModelLoader", miniature.ADAPTER),
                                     ("loaded", "person", "InstantIDLoadPerson", "linked.safetensors"),
                                     ("analysis", "provider", "InstantIDFaceAnalysis", "CPU")):
        linked[f"{name} name"] = node("ComfySwitchNode", switch=True, on_true=file, on_false="")
        linked[name] = node(kind, **{inputs: [f"{name} name", 0]})
    linked["shown"] = node("PreviewAny", source=["loaded", 0])
    client.queue(linked)
    assert not client.queue(linked).seconds


def test_no_face_is_told_before_the_sampling(client, workflow):
    blank = {**workflow, "photo": node("EmptyImage", width=300, height=200, batch_size=1, color=0)}
    with pytest.raises(PromptError) as error:
        client.queue(blank)
    assert error.value.node_type == "ApplyInstantID"
    assert error.value.message.startswith("Reference Image: No face detected. The image (300x200 pixels)")
