"""Workflows over HTTP, as a user queues them."""

import pytest
import safetensors.torch
import torch
from serving import miniature
from serving.client import PromptError
from serving.demo_workflow import changed, node


@pytest.fixture(scope="module")
def workflow(photo):
    """Loaders, Apply InstantID, two sampling steps, the latent saved."""
    return {
        "checkpoint": node("InstantIDDemoCheckpoint"),
        "net": node("InstantIDDemoControlNet"),
        "adapter": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
        "analysis": node("InstantIDFaceAnalysis", provider="CPU"),
        "photo": node("LoadImage", image=photo),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text="a portrait"),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text="blurry"),
        "apply": node("ApplyInstantID", instantid=["adapter", 0], insightface=["analysis", 0], control_net=["net", 0],
                      image=["photo", 0], model=["checkpoint", 0], positive=["positive", 0], negative=["negative", 0],
                      weight=0.8, start_at=0.0, end_at=1.0),
        "latent": node("EmptyLatentImage", width=192, height=192, batch_size=1),
        "sample": node("KSampler", model=["apply", 0], positive=["apply", 1], negative=["apply", 2],
                       latent_image=["latent", 0], seed=7, steps=2, cfg=4.5, sampler_name="euler", scheduler="normal",
                       denoise=1.0),
        "save": node("SaveLatent", samples=["sample", 0], filename_prefix="latent"),
    }


def latent(client, workflow):
    """The saved latent of a run, and the nodes that ComfyUI did not run again."""
    run = client.queue(workflow)
    saved, = run.outputs["save"]["latents"]
    return safetensors.torch.load(client.file(saved))["latent_tensor"], set(run.cached)


def test_a_slider_is_moved_and_moved_back(client, workflow):
    """ComfyUI keeps the loaders' outputs; ours must not have been changed by the runs in between."""
    first, _ = latent(client, changed(workflow, "sample", seed=1))
    other, cached = latent(client, changed(changed(workflow, "sample", seed=1), "apply", weight=1.3))
    again, _ = latent(client, changed(workflow, "sample", seed=1))
    assert {"checkpoint", "net", "adapter", "analysis", "photo"} <= cached and "apply" not in cached
    assert not torch.equal(first, other)
    assert torch.equal(first, again)


@pytest.mark.newest
def test_a_moved_slider_costs_no_second_look_at_the_photo(client, workflow):
    latent(client, workflow)
    before = client.get("/instantid_swift/caches")
    latent(client, changed(workflow, "apply", weight=0.3))
    after = client.get("/instantid_swift/caches")
    for name in ("pictures", "identities"):
        assert after[name]["hits"] > before[name]["hits"] and after[name]["misses"] == before[name]["misses"], name


@pytest.mark.newest
def test_two_people_with_the_split_nodes(client, workflow):
    """All the other nodes in one workflow: keypoints, patch, ControlNet, Advanced."""
    split = {
        **workflow,
        "keypoints": node("FaceKeypointsPreprocessor", faceanalysis=["analysis", 0], image=["photo", 0]),
        "patch": node("InstantIDAttentionPatch", instantid=["adapter", 0], insightface=["analysis", 0], image=["photo", 0],
                      model=["checkpoint", 0], weight=1.0, start_at=0.0, end_at=0.9, noise=0.2),
        "control": node("ApplyInstantIDControlNet", face_embeds=["patch", 1], control_net=["net", 0],
                        image_kps=["keypoints", 0], positive=["positive", 0], negative=["negative", 0], strength=0.8,
                        start_at=0.0, end_at=1.0),
        "apply": node("ApplyInstantIDAdvanced", instantid=["adapter", 0], insightface=["analysis", 0], control_net=["net", 0],
                      image=["photo", 0], model=["patch", 0], positive=["control", 0], negative=["control", 1],
                      ip_weight=0.5, cn_strength=0.5, start_at=0.1, end_at=1.0, noise=0.0, combine_embeds="average",
                      image_kps=["keypoints", 0]),
    }
    one, _ = latent(client, workflow)
    two, _ = latent(client, split)
    assert two.isfinite().all() and not torch.equal(one, two)


def test_no_face_is_told_before_the_sampling(client, workflow):
    blank = {**workflow, "photo": node("EmptyImage", width=300, height=200, batch_size=1, color=0)}
    with pytest.raises(PromptError) as error:
        client.queue(blank)
    assert error.value.node_type == "ApplyInstantID"
    assert error.value.message.startswith("Reference Image: No face detected. The image (300x200 pixels)")
