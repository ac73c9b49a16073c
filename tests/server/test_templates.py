"""The templates and the blueprint, opened in the server's own graph editor and queued to their end on the miniature."""

import io
import itertools
import json
import urllib.parse

import numpy as np
import pytest
from chromium import CLASSIC, describe
from conftest import CHECKOUT
from oracle import fixtures as fx
from PIL import Image
from serving import miniature
from serving.demo_workflow import node
from serving.server import PACK

pytestmark = pytest.mark.newest
in_the_editor = pytest.mark.parametrize("canvas", CLASSIC[:1], indirect=True, ids=describe)
TEMPLATES = sorted(path.stem for path in (CHECKOUT / "example_workflows").glob("*.json"))
BLUEPRINT = CHECKOUT / "subgraphs" / "InstantID portrait.json"
SMALLER = 4     # sizes of pictures are divided by it
SIZES = ("width", "height", "left", "right", "x", "y")

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


def template(name):
    return json.loads((CHECKOUT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def upload(client, name, path):
    """A portrait under a template's name for it; of a picture to be painted into, the middle is masked."""
    portrait = fx.portrait("b" if name.endswith(("right.png", "2.png", "pose.png")) else "a")[0].numpy()
    picture = Image.fromarray((portrait * 255).round().astype(np.uint8)).resize((256, 256))
    if name == "picture.png":
        mask = Image.new("L", picture.size, 255)
        mask.paste(0, (64, 64, 192, 192))
        picture.putalpha(mask)
    picture.save(path / name)
    client.upload_image(path / name)


@pytest.fixture(scope="module")
def loaded(canvas, tmp_path_factory):
    """What the editor made of each: {name: {"nodes": [...], "prompt": the API form}}."""
    photos = tmp_path_factory.mktemp("photos")
    for name in {entry["widgets_values"][0] for title in TEMPLATES for entry in template(title)["nodes"]
                 if entry["type"] == "LoadImage"}:
        upload(canvas.client, name, photos)
    reports = {}
    for title in TEMPLATES:
        canvas.errors.clear()
        reports[title] = {**canvas.evaluate(LOAD, template(title)), "errors": list(canvas.errors)}
    reports[BLUEPRINT] = canvas.evaluate(LOAD, json.loads(BLUEPRINT.read_text(encoding="utf-8")))
    return reports


def test_the_template_browser_offers_them_with_a_thumbnail(client):
    assert sorted(client.get("/workflow_templates")[PACK]) == sorted(TEMPLATES)
    for name in TEMPLATES:
        address = f"/api/workflow_templates/{PACK}/{urllib.parse.quote(name)}"
        assert client.get(f"{address}.json") == template(name)
        with Image.open(io.BytesIO(client.request(f"{address}.jpg"))) as picture:
            assert picture.format == "JPEG" and min(picture.size) >= 400


@in_the_editor
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_without_an_error(loaded, name):
    """Values of the original's nodes land in their widgets by position; a further widget of ours would stand behind them."""
    shown, saved = loaded[name]["nodes"], template(name)["nodes"]
    assert sorted(n["type"] for n in shown) == sorted(n["type"] for n in saved)
    assert [n["type"] for n in shown if not n["known"] and n["type"] != "MarkdownNote"] == []
    assert loaded[name]["errors"] == []
    for one, entry in zip(shown, saved, strict=True):
        assert one["title"] == entry.get("title", one["title"])
        if entry["type"] not in ("MarkdownNote", "LoadImage"):
            assert list(one["widgets"].values())[:len(entry["widgets_values"])] == entry["widgets_values"], one["title"]


@in_the_editor
@pytest.mark.parametrize("name", TEMPLATES)
def test_no_node_covers_another(loaded, name):
    for one, two in itertools.combinations(loaded[name]["nodes"], 2):
        apart = any(a[axis] + a[axis + 2] <= b[axis] for axis in (0, 1)
                    for a, b in ((one["box"], two["box"]), (two["box"], one["box"])))
        assert apart, (one["title"], one["box"], two["title"], two["box"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_tells_what_to_choose_and_where_its_files_are(name):
    nodes = template(name)["nodes"]
    note, = (entry["widgets_values"][0] for entry in nodes if entry["type"] == "MarkdownNote")
    assert "**" in note and "antelopev2" in note
    for entry in nodes:
        if entry["type"] in ("CheckpointLoaderSimple", "ControlNetLoader", "LoraLoaderModelOnly"):
            file, = entry["properties"]["models"]
            assert file["name"] == entry["widgets_values"][0] and file["url"].startswith("https://huggingface.co/")


@in_the_editor
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_runs(client, loaded, name):
    """With the miniature for the models, portraits for the photos, one step, a quarter of each side, and two values."""
    stand_ins = {"CheckpointLoaderSimple": node("InstantIDDemoCheckpoint"), "ControlNetLoader": node("InstantIDDemoControlNet"),
                 "InstantIDModelLoader": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER)}
    prompt = loaded[name]["prompt"]
    loras = {number: entry["inputs"]["model"] for number, entry in prompt.items()
             if entry["class_type"] == "LoraLoaderModelOnly"}
    workflow = {}
    for number, entry in prompt.items():
        inputs = {key: value // SMALLER if key in SIZES else loras.get(value[0], value) if isinstance(value, list) else value
                  for key, value in entry["inputs"].items()}
        cheap = {"steps": 1, "megapixels": 0.0625, "denoise": 1.0, "values": "0.6, 0.8", "seeds": "7"}
        inputs |= {key: value for key, value in cheap.items() if key in inputs}
        if number not in loras:
            workflow[number] = stand_ins.get(entry["class_type"], {**entry, "inputs": inputs})
    outputs = client.queue(workflow).outputs
    saved, = (number for number, entry in workflow.items() if entry["class_type"] == "SaveImage")
    assert len(outputs[saved]["images"]) == (2 if name == "InstantID find the weight" else 1)


@in_the_editor
def test_the_blueprint_is_offered_and_opens(client, loaded):
    saved = json.loads(BLUEPRINT.read_text(encoding="utf-8"))
    entry, = (key for key, value in client.get("/global_subgraphs").items() if value["name"] == BLUEPRINT.stem)
    assert json.loads(client.get(f"/global_subgraphs/{entry}")["data"]) == saved
    shown, = loaded[BLUEPRINT]["nodes"]
    assert (shown["type"], shown["known"]) == (saved["definitions"]["subgraphs"][0]["id"], True)
    assert shown["widgets"] == {"weight": 0.8, "start_at": 0, "end_at": 1}
    inside = {of["class_type"]: of["inputs"] for of in loaded[BLUEPRINT]["prompt"].values()}
    assert inside["ApplyInstantID"]["weight"] == 0.8
    assert {"InstantIDModelLoader", "InstantIDFaceAnalysis", "ControlNetLoader"} < set(inside)
