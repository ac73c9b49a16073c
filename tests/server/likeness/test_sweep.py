"""InstantID Sweep over HTTP: what is sampled again when a sweep changes, and what an interrupted one keeps."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from oracle import fixtures as fx
from photos import write_image
from PIL import Image
from serving import miniature
from serving.client import PromptError
from serving.demo_workflow import changed, node
from serving.server import Server

pytestmark = pytest.mark.newest


@pytest.fixture(scope="module")
def workflow(photo):
    """A sweep of four weights and two seeds."""
    return {
        "checkpoint": node("InstantIDDemoCheckpoint"), "net": node("InstantIDDemoControlNet"),
        "adapter": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
        "analysis": node("InstantIDFaceAnalysis", provider="CPU"),
        "photo": node("LoadImage", image=photo),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text="a portrait"),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text="blurry"),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "sweep": node("InstantIDSweep", instantid=["adapter", 0], insightface=["analysis", 0], control_net=["net", 0],
                      image=["photo", 0], model=["checkpoint", 0], positive=["positive", 0], negative=["negative", 0],
                      latent_image=["latent", 0], vae=["checkpoint", 2], setting="ip_weight",
                      values="0.4 to 1.0 step 0.2", seeds="1, 2", steps=1, cfg=4.5, sampler_name="euler", scheduler="normal",
                      denoise=1.0, ip_weight=0.8, cn_strength=0.8, start_at=0.0, end_at=1.0, noise=0.35,
                      combine_embeds="average"),
        "save": node("SaveImage", images=["sweep", 3], filename_prefix="swept"),
    }


class Watched:
    """What ComfyUI has executed in a run: ids of nodes."""

    def __init__(self, act=None):
        self.nodes, self.act = [], act

    def __call__(self, kind, data):
        if kind == "executing" and data["node"]:
            self.nodes.append(data["node"])
            if self.act:
                self.act(self)

    @property
    def sampled(self):
        return [node for node in self.nodes if ".sample " in node]


def swept(client, workflow):
    """(ids of the samplings, the Run)"""
    watched = Watched()
    run = client.queue(workflow, watched)
    return watched.sampled, run


def test_a_value_more_samples_that_value_only(client, workflow):
    before = client.get("/instantid_swift/caches")
    first, run = swept(client, workflow)
    after = client.get("/instantid_swift/caches")
    assert len(first) == len(set(first)) == 8
    assert len(run.outputs["save"]["images"]) == 8
    progress = [(data["value"], data["max"]) for _, kind, data in run.events if kind == "progress" and data["node"] == "sweep"]
    assert progress == [(done, 8) for done in range(9)], "the pictures that are done, on the sweep's own node"
    shown, = (data["output"] for _, kind, data in run.events if kind == "executed" and data.get("display_node") == "sweep")
    assert "ip_weight" in shown["text"][0] and len(shown["images"]) == 2, "the report, the sheet and the chart, on the node"
    for name, most in (("pictures", 9), ("identities", 1)):  # the photo and the sweep's pictures, each once
        assert after[name]["misses"] - before[name]["misses"] <= most, name
    more, run = swept(client, changed(workflow, "sweep", values="0.4 to 1.2 step 0.2"))
    assert len(more) == 2 and all("1.2" in node for node in more)
    assert len(run.outputs["save"]["images"]) == 10
    less, _ = swept(client, changed(workflow, "sweep", values="0.8, 0.4"))
    assert less == []
    assert swept(client, changed(workflow, "sweep", values="0.8, 0.4"))[0] == []


def test_a_value_more_after_an_unchanged_run_samples_that_value_only(client, workflow):
    """ComfyUI's cache lets go of a sweep's pictures in a run that has not made any."""
    four, five = (changed(workflow, "sweep", seeds="21, 22", values=f"0.4 to {last} step 0.2") for last in (1.0, 1.2))
    runs = [swept(client, each) for each in (four, four, five)]
    assert [len(sampled) for sampled, _ in runs] == [8, 0, 2]
    assert len(runs[-1][1].outputs["save"]["images"]) == 10


@pytest.mark.long
def test_the_old_cache_keeps_what_the_last_sweep_held(client, workflow, tmp_path):
    """ComfyUI with --cache-classic. A server of its own."""
    def sampled(values):
        return len(swept(old.client, changed(workflow, "sweep", values=values, seeds="1"))[0])
    with Server(Path(os.environ["INSTANTID_COMFYUI"]), cpu=True, arguments=("--cache-classic",), log=tmp_path / "log") as old:
        old.client.upload_image(write_image(tmp_path / "portrait.png", fx.portrait("a")))
        assert [sampled(values) for values in ("0.4, 0.6", "0.4, 0.6, 0.8", "0.4, 0.6, 0.8", "0.6", "0.6", "0.4, 0.6")] == [
            2, 1, 0, 0, 0, 0]


def test_an_interrupted_sweep_goes_on_where_it_was(client, workflow):
    again = changed(workflow, "sweep", seeds="11, 12")

    def stop(watched):
        if len(watched.sampled) == 3 and watched.nodes[-1] == watched.sampled[-1]:
            client.post("/interrupt", {})
    interrupted = Watched(stop)
    with pytest.raises(PromptError, match="interrupted"):
        client.queue(again, interrupted)
    rest, run = swept(client, again)
    assert 3 <= len(interrupted.sampled) < 8
    assert len(set(interrupted.sampled) | set(rest)) == 8
    assert len(set(interrupted.sampled) & set(rest)) <= 1, "the one that was interrupted"
    assert len(run.outputs["save"]["images"]) == 8


@pytest.mark.parametrize("setting, values", [("weight", "0.5, 0.7"), ("step reuse", "1, 2"), ("blocks", "as original, all 70")])
def test_other_settings(client, workflow, setting, values):
    one, _ = swept(client, changed(workflow, "sweep", setting=setting, values=values, seeds="5"))
    assert len(one) == 2


def test_the_pictures_are_those_of_the_single_nodes(client, workflow):
    single = {
        **{name: workflow[name] for name in workflow if name not in ("sweep", "save")},
        "apply": node("ApplyInstantIDAdvanced", **{name: workflow["sweep"]["inputs"][name] for name in (
            "instantid", "insightface", "control_net", "image", "model", "positive", "negative", "cn_strength", "start_at",
            "end_at", "noise", "combine_embeds")}, ip_weight=0.6),
        "sample": node("KSampler", model=["apply", 0], positive=["apply", 1], negative=["apply", 2], seed=2,
                       latent_image=["latent", 0], steps=1, cfg=4.5, sampler_name="euler", scheduler="normal", denoise=1.0),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="single"),
    }

    def pixels(image):
        return np.asarray(Image.open(io.BytesIO(client.file(image))))
    expected, = client.queue(single).outputs["save"]["images"]
    found = client.queue(changed(workflow, "save", filename_prefix="again")).outputs["save"]
    assert np.array_equal(pixels(found["images"][3]), pixels(expected)), "0.4 with seeds 1 and 2, then 0.6 with 1 and 2"


def test_a_wrong_value_is_refused_before_anything_runs(client, workflow):
    with pytest.raises(PromptError, match="The value 9 cannot be used: ip_weight is a number of 0 to 3"):
        client.queue(changed(workflow, "sweep", values="9"))
    with pytest.raises(PromptError, match=r"No effect: start_at 0.9 is after end_at 0.8"):
        client.queue(changed(workflow, "sweep", setting="start_at", values="0.1, 0.9", end_at=0.8))


def test_a_constant_in_place_of_a_link_is_refused_before_anything_is_made(client, workflow):
    with pytest.raises(PromptError, match="The input vae has no link"):
        client.queue(changed(workflow, "sweep", vae="none"))


def test_a_photo_without_a_face_is_refused_before_the_sampling(client, workflow):
    blank = {**workflow, "photo": node("EmptyImage", width=300, height=200, batch_size=1, color=0)}
    watched = Watched()
    with pytest.raises(PromptError, match="No face detected") as error:
        client.queue(blank, watched)
    assert error.value.node_type == "InstantIDSweep" and watched.sampled == []
