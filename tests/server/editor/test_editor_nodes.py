"""Our nodes in ComfyUI's graph editor: their size, their names and help pages, what they say, and the toast about twins."""

import json
from pathlib import Path

import pytest
from chromium import ON_EVERY_EDITOR
from conftest import CHECKOUT, COMFYUI
from serving import miniature
from serving.client import PromptError
from serving.demo_workflow import changed, node
from serving.server import Server

pytestmark = ON_EVERY_EDITOR

GEOMETRY = json.loads((CHECKOUT / "tests" / "original_geometry.json").read_text(encoding="utf-8"))
SEVEN = ("InstantIDModelLoader", "InstantIDFaceAnalysis", "ApplyInstantID", "ApplyInstantIDAdvanced",
         "FaceKeypointsPreprocessor", "InstantIDAttentionPatch", "ApplyInstantIDControlNet")
SOCKET_ROW = 20         # pixels, on both canvases
TITLE = 30
ORIGINAL = "Original"   # before an id: a stand-in for the original's node, which is ours without the socket `options`

# Gives the heights of each node and of its stand-in, in pixels of a canvas at its full size.
HEIGHTS = """async ([ids, prefix, drawn]) => {
    app.graph.clear()
    const nodes = ids.flatMap((id) => [["", id], [prefix, id]]).map(([kind, id], place) => {
        const node = LiteGraph.createNode(id)
        if (kind && node.findInputSlot("options") >= 0) {
            node.removeInput(node.findInputSlot("options"))
            node.setSize(node.computeSize())
        }
        node.pos = [350 * (place % 4), 600 * Math.floor(place / 4)]
        app.graph.add(node)
        node.title = kind + id
        return node
    })
    if (!drawn) return Object.fromEntries(nodes.map((node) => [node.title, node.computeSize()[1]]))
    app.canvas.ds.scale = 0.2       // so that all are on the screen; offsets do not depend on it
    app.canvas.ds.offset = [50, 50]
    app.canvas.setDirty(true, true)
    const element = (node) => document.querySelector(`[data-node-id="${node.id}"]`)
    while (!nodes.every((node) => element(node)?.offsetHeight > 50)) await new Promise(requestAnimationFrame)
    for (let frame = 0; frame < 20; frame++) await new Promise(requestAnimationFrame)
    return Object.fromEntries(nodes.map((node) => [node.title, element(node).offsetHeight]))
}"""

# The boxes of a workflow's nodes with their titles, [x, y, width, height].
BOXES = """async (workflow) => {
    await app.loadGraphData(workflow)
    return Object.fromEntries(app.graph.nodes.map((node) => [node.id, [...node.getBounding()]]))
}"""

RUN = """async (workflow) => {
    await app.loadApiJson(workflow, "test")
    await app.queuePrompt(0)
}"""
TEXTS = """() => {
    const widget = (type, name) => app.graph.nodes.find((node) => node.type === type)?.widgets
        ?.find((widget) => widget.name === name)?.value
    const report = app.graph.nodes.find((node) => node.type === "InstantIDPerformanceReport")
    const table = widget("InstantIDPerformanceReport", "report_text")
    return table && report.imgs?.length && {table, said: widget("ApplyInstantID", "instantid_text") ?? ""}
}"""
CONNECT_THE_PHOTO = """async () => {
    const node = (type) => app.graph.nodes.find((node) => node.type === type)
    const apply = node("ApplyInstantID")
    node("LoadImage").connect(0, apply, apply.findInputSlot("image"))
    await app.queuePrompt(0)
}"""
TOAST = """() => [...document.querySelectorAll(".p-toast-message, [data-testid='toast']")].map((toast) => toast.innerText)
    .find((text) => text.includes("InstantID Swift"))"""
SHOW_HELP = """async (id) => {
    app.graph.clear()
    const node = LiteGraph.createNode(id)
    app.graph.add(node)
    app.canvas.selectNode(node)
    const button = () => document.querySelector('[data-testid="info-button"]')
    while (!button()) await new Promise(requestAnimationFrame)
    button().click()
}"""


def test_heights_on_the_classic_canvas(client, editor):
    editor.open(client, **{"Comfy.VueNodes.Enabled": False})
    heights = editor.evaluate(HEIGHTS, [SEVEN, ORIGINAL, False])
    for name in SEVEN:
        assert heights[name] <= heights[ORIGINAL + name] + SOCKET_ROW, name
        assert heights[name] <= GEOMETRY["heights"].get(name, heights[name]) + SOCKET_ROW, name


def overlap(one, two):
    return all(one[axis] < two[axis] + two[axis + 2] and two[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


@pytest.mark.parametrize("name", GEOMETRY["workflows"])
def test_nothing_of_ours_covers_what_was_free(client, editor, name):
    """The original's example workflows: its nodes at the place and in the size in which they were saved."""
    saved = list(enumerate(GEOMETRY["workflows"][name], 1))
    boxes = {number: (one["pos"][0], one["pos"][1] - TITLE, one["size"][0], one["size"][1] + TITLE) for number, one in saved}
    ours = [number for number, one in saved if one["type"] in SEVEN]
    nodes = [{"id": number, **one, "flags": {}, "order": number, "mode": 0, "inputs": [], "outputs": [], "properties": {}}
             for number, one in saved if number in ours]
    drawn = editor.evaluate(BOXES, {"last_node_id": len(saved), "last_link_id": 0, "nodes": nodes, "links": [], "groups": [],
                                    "config": {}, "extra": {}, "version": 0.4})
    now = {**boxes, **{number: drawn[str(number)] for number in ours}}
    assert len(ours) >= 3
    covered = [(dict(saved)[one]["type"], dict(saved)[two]["type"]) for one in ours for two in boxes if two != one
               and overlap(now[one], now[two]) and not overlap(boxes[one], boxes[two])]
    assert covered == []


def test_heights_in_nodes_2(client, editor):
    editor.open(client, **{"Comfy.VueNodes.Enabled": True})
    heights = editor.evaluate(HEIGHTS, [SEVEN, ORIGINAL, True])
    for name in SEVEN:
        assert heights[name] <= heights[ORIGINAL + name] + SOCKET_ROW, name


@pytest.fixture(scope="module")
def workflow(photo):
    """Apply InstantID with a picture that shows no face, a report of that, and a photo that shows one."""
    return {
        "1": node("InstantIDDemoCheckpoint"),
        "2": node("InstantIDDemoControlNet"),
        "3": node("InstantIDModelLoader", instantid_file=miniature.ADAPTER),
        "4": node("InstantIDFaceAnalysis", provider="CPU"),
        "5": node("EmptyImage", width=300, height=200, batch_size=1, color=0),
        "6": node("CLIPTextEncode", clip=["1", 1], text="a portrait"),
        "7": node("InstantIDOptions", face_order="largest", face_index=0, no_face="bypass", small_faces=False,
                  blocks="as original", block_weights="", attention="exact"),
        "8": node("ApplyInstantID", instantid=["3", 0], insightface=["4", 0], control_net=["2", 0], image=["5", 0],
                  model=["1", 0], positive=["6", 0], negative=["6", 0], weight=0.8, start_at=0.0, end_at=1.0,
                  options=["7", 0]),
        "9": node("InstantIDPerformanceReport", anything=["8", 0]),
        "10": node("LoadImage", image=photo),
        "11": node("PreviewImage", images=["10", 0]),
    }


@pytest.mark.parametrize("vue, weight", [(False, 0.7), (True, 0.8)])
def test_what_nodes_say_of_themselves(client, editor, workflow, vue, weight):
    """A bypass stands on the node until it runs without one; the report shows its table and its chart."""
    editor.open(client, **{"Comfy.VueNodes.Enabled": vue})
    editor.evaluate(RUN, changed(workflow, "8", weight=weight))     # ComfyUI would not run again what has not changed
    shown = editor.wait_for(TEXTS)
    assert shown["said"].startswith("InstantID: Bypassed: this node changes nothing. Reference Image: No face detected.")
    assert shown["table"].splitlines()[0].split()[:2] == ["stage", "calls"] and "apply" in shown["table"]
    editor.evaluate(CONNECT_THE_PHOTO)
    assert editor.wait_for(f"() => ({TEXTS})()?.said === '' && ({TEXTS})().table.includes('embed')")


def test_unreadable_block_weights_are_refused_when_queued(client, editor, workflow):
    with pytest.raises(PromptError, match="'outer 3: 1' cannot be read"):
        client.queue(changed(workflow, "7", block_weights="outer 3: 1"))


def test_chinese_names_and_help_page(client, editor):
    editor.open(client, **{"Comfy.Locale": "zh", "Comfy.VueNodes.Enabled": False})
    try:
        titles = editor.evaluate("(ids) => ids.map((id) => LiteGraph.createNode(id).title)", list(SEVEN))
        chinese = json.loads((CHECKOUT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
        assert titles == [chinese[name]["display_name"] for name in SEVEN]
        editor.evaluate(SHOW_HELP, "ApplyInstantID")
        assert editor.wait_for("() => document.body.innerText.includes('1016 x 1016 像素')")
    finally:
        client.post("/settings/Comfy.Locale", "en")


def test_a_toast_names_packs_with_our_ids(server, editor, tmp_path):
    """One that ComfyUI has imported before ours, and one after it."""
    stand_ins = CHECKOUT / "tests" / "stand_ins"
    with Server(Path(COMFYUI), cpu=True, arguments=server.arguments, log=tmp_path / "log",
                before=(stand_ins / "twin_imported_before",), after=(stand_ins / "twin_imported_after",)) as with_twins:
        editor.open(with_twins.client)
        text = " ".join(editor.wait_for(TOAST).split())
        log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "custom_nodes/twin_imported_after and custom_nodes/twin_imported_before and custom_nodes/InstantID-Swift" in text
    assert "Keep one of these folders" in text
    assert "custom_nodes/InstantID-Swift for ApplyInstantID" in text
    assert "custom_nodes/twin_imported_after for FaceKeypointsPreprocessor" in text
    assert log.count("register the same nodes") == 1
