"""InstantID Sweep over HTTP: what is sampled again when a sweep changes, and what an interrupted one keeps."""

import io

import numpy as np
import pytest
from PIL import Image
from serving import miniature
from serving.client import PromptError
from serving.demo_workflow import build, changed, node

from benchmarks.stages.rerun import INSTANTID, SHARED

pytestmark = pytest.mark.newest
LINKS = ("instantid", "insightface", "control_net", "image", "model", "positive", "negative")


@pytest.fixture(scope="module")
def workflow(photo):
    """A sweep of two weights and two seeds."""
    nodes = build(photo, miniature.ADAPTER, None, None, size=128, steps=1)
    links = {name: nodes["apply"]["inputs"][name] for name in LINKS}
    return {
        **{name: nodes[name] for name in (*SHARED, *INSTANTID, "controlnet", "photo") if name not in ("apply", "sample")},
        "sweep": node("InstantIDSweep", **links, latent_image=["latent", 0], vae=["checkpoint", 2], setting="ip_weight",
                      values="0.4, 0.6", seeds="1, 2", steps=1, cfg=4.5, sampler_name="euler", scheduler="normal",
                      denoise=1.0, ip_weight=0.8, cn_strength=0.8, start_at=0.0, end_at=1.0, noise=0.35,
                      combine_embeds="average"),
        "save": node("SaveImage", images=["sweep", 3], filename_prefix="swept"),
    }


class Samplings(list):
    """Ids of the nodes that sample in a run, as they begin."""

    def watch(self, kind, data):
        if kind == "executing" and ".sample " in (data["node"] or ""):
            self.append(data["node"])


def swept(client, workflow):
    """(Samplings, the Run)"""
    sampled = Samplings()
    return sampled, client.queue(workflow, sampled.watch)


def test_a_value_more_samples_that_value_only(client, workflow):
    before = client.get("/instantid_swift/caches")
    first, run = swept(client, workflow)
    after = client.get("/instantid_swift/caches")
    assert len(first) == len(set(first)) == 4
    assert len(run.outputs["save"]["images"]) == 4
    progress = [(data["value"], data["max"]) for _, kind, data in run.events if kind == "progress" and data["node"] == "sweep"]
    assert progress == [(done, 4) for done in range(5)], "the pictures that are done, on the sweep's own node"
    shown, = (data["output"] for _, kind, data in run.events if kind == "executed" and data.get("display_node") == "sweep")
    assert "ip_weight" in shown["text"][0] and len(shown["images"]) == 2, "the report, the sheet and the chart, on the node"
    for name, most in (("pictures", 5), ("identities", 1)):  # the photo and the sweep's pictures, each once
        assert after[name]["misses"] - before[name]["misses"] <= most, name

    def again(values):
        return swept(client, changed(workflow, "sweep", values=values))
    more, run = again("0.4 to 0.8 step 0.2")
    assert len(more) == 2 and all("0.8" in node for node in more)
    assert len(run.outputs["save"]["images"]) == 6
    # an unchanged run makes no pictures, and ComfyUI's cache lets go of the sweep's
    assert [len(again(values)[0]) for values in ("0.4 to 0.8 step 0.2", "0.4 to 1.0 step 0.2", "0.8, 0.4", "0.8, 0.4")] == [
        0, 2, 0, 0]


def test_an_interrupted_sweep_goes_on_where_it_was(client, workflow):
    again = changed(workflow, "sweep", values="0.4 to 1.0 step 0.2", seeds="11, 12")
    interrupted = Samplings()

    def stop(kind, data):
        before = len(interrupted)
        interrupted.watch(kind, data)
        if before == 1 and len(interrupted) == 2:
            client.post("/interrupt", {})
    with pytest.raises(PromptError, match="interrupted"):
        client.queue(again, stop)
    rest, run = swept(client, again)
    assert 2 <= len(interrupted) < 8
    assert len(set(interrupted) | set(rest)) == 8
    assert len(set(interrupted) & set(rest)) <= 1, "the one that was interrupted"
    assert len(run.outputs["save"]["images"]) == 8


def test_the_pictures_are_those_of_the_single_nodes(client, workflow):
    inputs = workflow["sweep"]["inputs"]
    single = {
        **{name: workflow[name] for name in workflow if name not in ("sweep", "save")},
        "apply": node("ApplyInstantIDAdvanced", ip_weight=0.6, **{name: inputs[name] for name in (
            *LINKS, "cn_strength", "start_at", "end_at", "noise", "combine_embeds")}),
        "sample": node("KSampler", model=["apply", 0], positive=["apply", 1], negative=["apply", 2], seed=2,
                       **{name: inputs[name] for name in ("latent_image", "steps", "cfg", "sampler_name", "scheduler",
                                                          "denoise")}),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="single"),
    }

    def pixels(image):
        return np.asarray(Image.open(io.BytesIO(client.file(image))))
    expected, = client.queue(single).outputs["save"]["images"]
    found = client.queue(changed(workflow, "save", filename_prefix="again")).outputs["save"]
    assert np.array_equal(pixels(found["images"][3]), pixels(expected)), "0.4 with seeds 1 and 2, then 0.6 with 1 and 2"


@pytest.mark.parametrize("inputs, message", [
    ({"values": "9"}, "The value 9 cannot be used: ip_weight is a number of 0 to 3"),
    ({"vae": "none"}, "The input vae has no link")])
def test_what_cannot_be_swept_is_refused_before_anything_runs(client, workflow, inputs, message):
    with pytest.raises(PromptError, match=message):
        client.queue(changed(workflow, "sweep", **inputs))
