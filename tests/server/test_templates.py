"""The templates and the blueprint, opened in the server's own graph editor and queued to their end on the miniature."""

import io
import itertools
import json
import re
import urllib.parse

import numpy as np
import pytest
from chromium import CANVASES, CLASSIC, describe
from conftest import CHECKOUT
from oracle import fixtures as fx
from PIL import Image
from serving import miniature
from serving.demo_workflow import node
from serving.server import PACK

pytestmark = pytest.mark.newest
in_the_editor = pytest.mark.parametrize("canvas", CLASSIC[:1], indirect=True, ids=describe)
on_both_canvases = pytest.mark.parametrize("canvas", (CANVASES[0], CANVASES[-1]), indirect=True, ids=describe)
TEMPLATES = sorted(path.stem for path in (CHECKOUT / "example_workflows").glob("*.json"))
BLUEPRINT = CHECKOUT / "subgraphs" / "InstantID portrait.json"
SMALLER = 4     # sizes of pictures are divided by it
SIZES = ("width", "height", "left", "right", "x", "y")
LEAST_ZOOM = 0.57       # below, the editor draws no letters
LEAST_CONTRAST = 4.5    # of texts, by WCAG 2.2, 1.4.3

# Opens a workflow, and waits until no node moves or grows any more. box: of Nodes 2.0 the element's, which is what is seen.
LOAD = """async (workflow) => {
    await app.loadGraphData(workflow)
    const view = app.canvas.ds
    const elementOf = (node) => document.querySelector(`[data-node-id="${node.id}"]`)
    const box = (node) => {
        const element = elementOf(node)?.getBoundingClientRect()
        return element ? [element.x, element.y, element.width, element.height].map((pixels) => pixels / view.scale)
            : [...node.getBounding()]
    }
    const boxes = () => JSON.stringify(app.graph.nodes.map(box))
    const frame = () => new Promise(requestAnimationFrame)
    for (let before; before !== boxes();) {
        before = boxes()
        for (let drawn = 0; drawn < 3; drawn++) await frame()
    }
    const textOf = (node) => elementOf(node) ?? node.widgets[0].element
    const letters = (node) => node.type !== "MarkdownNote" || node.flags.collapsed ? []
        : [...textOf(node).querySelectorAll("p, li, a, strong")].map((one) => getComputedStyle(one).color)
    const nodes = app.graph.nodes.map((node) => ({
        type: node.type,
        title: node.title,
        known: node.constructor === LiteGraph.registered_node_types[node.type],     // else a placeholder
        widgets: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
        box: box(node),
        background: node.bgcolor,
        letters: [...new Set(letters(node))],
    }))
    return {nodes, zoom: view.scale, prompt: (await app.graphToPrompt()).output}
}"""


def rgb(color):
    """Numbers from 0 to 255 of a color in CSS: rgb(1, 2, 3), #123 or #010203."""
    if not color.startswith("#"):
        return [int(number) for number in re.findall(r"\d+", color)[:3]]
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    return list(bytes.fromhex(digits))


def contrast(*colors):
    """The contrast of two colors, 1 to 21, as WCAG 2.2 defines it."""
    def luminance(color):
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.divide(color, 255)]
        return np.dot(parts, (0.2126, 0.7152, 0.0722))
    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)


def template(name):
    return json.loads((CHECKOUT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def upload(client, name, path):
    """A portrait under a template's name for it."""
    portrait = fx.portrait("b" if name.endswith(("right.png", "2.png", "pose.png")) else "a")[0].numpy()
    picture = Image.fromarray((portrait * 255).round().astype(np.uint8)).resize((256, 256))
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


@on_both_canvases
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_readable(loaded, name):
    """Large enough for letters, and the notes' letters stand out from their ground."""
    assert loaded[name]["zoom"] >= LEAST_ZOOM
    for note in (one for one in loaded[name]["nodes"] if one["letters"]):
        for color in note["letters"]:
            assert contrast(rgb(color), rgb(note["background"])) >= LEAST_CONTRAST, (note["title"], color)


@on_both_canvases
@pytest.mark.parametrize("name", TEMPLATES)
def test_no_node_covers_another(loaded, name):
    for one, two in itertools.combinations(loaded[name]["nodes"], 2):
        apart = any(a[axis] + a[axis + 2] <= b[axis] for axis in (0, 1)
                    for a, b in ((one["box"], two["box"]), (two["box"], one["box"])))
        assert apart, (one["title"], one["box"], two["title"], two["box"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_tells_what_to_choose_and_where_its_files_are(name):
    nodes = template(name)["nodes"]
    notes = {entry["title"]: entry["widgets_values"][0] for entry in nodes if entry["type"] == "MarkdownNote"}
    assert notes.keys() == {"What to choose", "Files", "中文说明"} and not any("`" in text for text in notes.values())
    assert all("/antelopev2/tree/main)" in notes[title] for title in ("Files", "中文说明"))
    for entry in nodes:
        if entry["type"] in ("CheckpointLoaderSimple", "ControlNetLoader", "InstantIDModelLoader", "LoraLoaderModelOnly"):
            file, = entry["properties"]["models"]
            assert file["name"] == entry["widgets_values"][0] and file["url"].startswith("https://huggingface.co/")


@pytest.mark.parametrize("name", TEMPLATES)
def test_notes_stand_in_the_left_column(name):
    nodes = template(name)["nodes"]
    left = min(entry["pos"][0] for entry in nodes)
    assert {entry["pos"][0] for entry in nodes if entry["type"] == "MarkdownNote"} == {left}


@in_the_editor
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_runs(client, loaded, name):
    """With the miniature for the models, portraits for the photos, one step, a quarter of each side, and two values."""
    stand_ins = {"CheckpointLoaderSimple": node("InstantIDDemoCheckpoint"), "ControlNetLoader": node("InstantIDDemoControlNet"),
                 "InstantIDModelLoader": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
                 "SDPoseKeypointExtractor": node("InstantIDDemoPose")}
    prompt = loaded[name]["prompt"]
    loras = {number: entry["inputs"]["model"] for number, entry in prompt.items()
             if entry["class_type"] == "LoraLoaderModelOnly"}
    workflow = {}
    for number, entry in prompt.items():
        inputs = {key: value // SMALLER if key in SIZES else loras.get(value[0], value) if isinstance(value, list) else value
                  for key, value in entry["inputs"].items()}
        cheap = {"steps": 1, "denoise": 1.0, "face_size": 128, "values": "0.6, 0.8", "seeds": "7"}
        inputs |= {key: value for key, value in cheap.items() if key in inputs}
        if number not in loras:
            workflow[number] = stand_ins.get(entry["class_type"], {**entry, "inputs": inputs})
    outputs = client.queue(workflow).outputs
    saved, = (number for number, entry in workflow.items() if entry["class_type"] == "SaveImage")
    assert len(outputs[saved]["images"]) == (2 if name.endswith("Find the weight") else 1)


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
