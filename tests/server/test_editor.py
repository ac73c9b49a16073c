"""The example workflows, and one as the original pack saved it, in the server's own graph editor in headless Chromium.

Skipped where there is no Chromium.
"""

import io
import itertools
import json

import miniature
import pytest
from conftest import CHECKOUT
from demo_workflow import node
from oracle import fixtures as fx
from photos import write_image
from PIL import Image
from serving.server import PACK

pytestmark = pytest.mark.newest     # the editor is one for all versions
PICTURES = {"instantid_basic": (1016, 1016), "instantid_two_people": (1200, 824)}
SIZES = ("width", "height", "left", "right")        # inputs that a smaller picture needs smaller

LOAD = """async (workflow) => {
    await app.loadGraphData(workflow)
    const nodes = app.graph.nodes.map((node) => ({
        type: node.type,
        title: node.title,
        known: node.constructor === LiteGraph.registered_node_types[node.type],     // else a placeholder
        widgets: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
        box: [...node.getBounding()],
    }))
    return {nodes, prompt: (await app.graphToPrompt()).output}
}"""

LOADED = {"instantid": ["Load InstantID Model", 0], "insightface": ["InstantID Face Analysis", 0],
          "control_net": ["Load ControlNet Model", 0]}
WHOLE = {"weight": 0.8, "start_at": 0, "end_at": 1}
SAMPLED = {"seed": 7, "steps": 30, "cfg": 4.5, "sampler_name": "ddpm", "scheduler": "karras", "denoise": 1,
           "latent_image": ["Empty Latent Image", 0]}
# per example and title of a node: its inputs in the API form, links by the title of the other node
INPUTS = {
    "instantid_basic": {
        "Load InstantID Model": {"instantid_file": "ip-adapter.bin"},
        "InstantID Face Analysis": {"provider": "CPU"},
        "Apply InstantID": {
            **LOADED, **WHOLE, "image": ["Photo of the person", 0], "model": ["Load Checkpoint", 0], "positive": ["Prompt", 0],
            "negative": ["Negative prompt", 0]},
        "KSampler": {**SAMPLED, "model": ["Apply InstantID", 0], "positive": ["Apply InstantID", 1],
                     "negative": ["Apply InstantID", 2]},
    },
    "instantid_two_people": {
        "Load InstantID Model": {"instantid_file": "ip-adapter.bin"},
        "InstantID Face Analysis": {"provider": "CPU"},
        "Apply InstantID: left": {
            **LOADED, **WHOLE, "image": ["Photo: left", 0], "model": ["Load Checkpoint", 0], "positive": ["Prompt: left", 0],
            "negative": ["Negative prompt", 0], "image_kps": ["Add the other half: left", 0], "mask": ["Mask: left", 0]},
        "Apply InstantID: right": {
            **LOADED, **WHOLE, "image": ["Photo: right", 0], "model": ["Apply InstantID: left", 0],
            "positive": ["Prompt: right", 0], "negative": ["Negative prompt", 0],
            "image_kps": ["Add the other half: right", 0], "mask": ["Mask: right", 0]},
        "Combine the positives": {"conditioning_1": ["Apply InstantID: left", 1],
                                  "conditioning_2": ["Apply InstantID: right", 1]},
        "Combine the negatives": {"conditioning_1": ["Apply InstantID: left", 2],
                                  "conditioning_2": ["Apply InstantID: right", 2]},
        "KSampler": {**SAMPLED, "model": ["Apply InstantID: right", 0], "positive": ["Combine the positives", 0],
                     "negative": ["Combine the negatives", 0]},
    },
}

# the original's widgets in their order, with values that no two of them could take for each other
WIDGETS = {
    "InstantIDModelLoader": {"instantid_file": "ip-adapter.bin"},
    "InstantIDFaceAnalysis": {"provider": "ROCM"},
    "ApplyInstantID": {"weight": 2.5, "start_at": 0.125, "end_at": 0.875},
    "ApplyInstantIDAdvanced": {"ip_weight": 1.25, "cn_strength": 7.5, "start_at": 0.125, "end_at": 0.875, "noise": 0.3,
                               "combine_embeds": "concat"},
    "FaceKeypointsPreprocessor": {},
    "InstantIDAttentionPatch": {"weight": -0.5, "start_at": 0.125, "end_at": 0.875, "noise": 0.3},
    "ApplyInstantIDControlNet": {"strength": 7.5, "start_at": 0.125, "end_at": 0.875},
}


def old_workflow():
    """All nodes of the pack as the original saved them in 2024: no inputs for widgets, values by position."""
    nodes = [{"id": number, "type": kind, "pos": [0, 400 * number], "size": {"0": 315, "1": 200}, "flags": {}, "order": number,
              "mode": 0, "properties": {"Node name for S&R": kind}, "widgets_values": list(values.values())}
             for number, (kind, values) in enumerate(WIDGETS.items())]
    return {"last_node_id": len(nodes), "last_link_id": 0, "nodes": nodes, "links": [], "groups": [], "config": {}, "extra": {},
            "version": 0.4}


def example(name):
    return json.loads((CHECKOUT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def loaded(client, editor):
    """What the editor made of each workflow: {name: {"nodes": [...], "prompt": the API form}}."""
    editor.open(client)
    return {name: editor.evaluate(LOAD, workflow)
            for name, workflow in [*((name, example(name)) for name in INPUTS), ("old", old_workflow())]}


@pytest.fixture(scope="module")
def info(client):
    return client.object_info()


def later_widgets(info, kind, known):
    """The widgets that a node has beside the known ones, at their defaults."""
    inputs = info[kind]["input"].get("optional", {})
    return {name: options["default"] for name, (_, options) in inputs.items() if "default" in options and name not in known}


def by_title(prompt):
    """The API form with titles for the nodes' ids."""
    titles = {number: entry["_meta"]["title"] for number, entry in prompt.items()}

    def named(value):
        return [titles[value[0]], value[1]] if isinstance(value, list) else value
    return {titles[number]: (entry["class_type"], {name: named(value) for name, value in entry["inputs"].items()})
            for number, entry in prompt.items()}


def test_the_template_browser_offers_the_examples(client):
    assert sorted(client.get("/workflow_templates")[PACK]) == sorted(INPUTS)
    for name in INPUTS:
        assert client.get(f"/api/workflow_templates/{PACK}/{name}.json") == example(name)


@pytest.mark.parametrize("name", [*INPUTS, "old"])
def test_every_node_is_known(loaded, name):
    workflow = old_workflow() if name == "old" else example(name)
    found = loaded[name]["nodes"]
    assert sorted(n["type"] for n in found) == sorted(n["type"] for n in workflow["nodes"])
    assert [n["type"] for n in found if not n["known"]] == []


@pytest.mark.parametrize("kind", WIDGETS)
def test_old_values_land_in_their_widgets(loaded, info, kind):
    found, = (n["widgets"] for n in loaded["old"]["nodes"] if n["type"] == kind)
    assert found == {**WIDGETS[kind], **later_widgets(info, kind, WIDGETS[kind])}


@pytest.mark.parametrize("name", INPUTS)
def test_example_as_prompt(loaded, info, name):
    prompt = by_title(loaded[name]["prompt"])
    for title, inputs in INPUTS[name].items():
        kind, found = prompt[title]
        assert found == {**inputs, **later_widgets(info, kind, inputs)}, title


@pytest.mark.parametrize("name", INPUTS)
def test_no_node_of_an_example_covers_another(loaded, name):
    for one, two in itertools.combinations(loaded[name]["nodes"], 2):
        apart = any(a[axis] + a[axis + 2] <= b[axis] for axis in (0, 1)
                    for a, b in ((one["box"], two["box"]), (two["box"], one["box"])))
        assert apart, (one["title"], two["title"])


@pytest.mark.parametrize("name", INPUTS)
def test_example_runs(client, loaded, name, tmp_path):
    """With the miniature for the models, portraits for the photos, one step, and half the size."""
    stand_ins = {"CheckpointLoaderSimple": node("InstantIDDemoCheckpoint"), "ControlNetLoader": node("InstantIDDemoControlNet"),
                 "InstantIDModelLoader": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER)}
    workflow = loaded[name]["prompt"]
    for number, entry in workflow.items():
        inputs = {key: value // 2 if key in SIZES else value for key, value in entry["inputs"].items()}
        if entry["class_type"] == "LoadImage":
            portrait = fx.portrait("b" if "right" in inputs["image"] else "a")
            client.upload_image(write_image(tmp_path / inputs["image"], portrait))
        elif entry["class_type"] == "KSampler":
            inputs["steps"] = 1
        workflow = {**workflow, number: stand_ins.get(entry["class_type"], {**entry, "inputs": inputs})}
    outputs, = client.queue(workflow).outputs.values()
    picture, = outputs["images"]
    width, height = (size // 2 // 8 * 8 for size in PICTURES[name])
    assert Image.open(io.BytesIO(client.file(picture))).size == (width, height)
