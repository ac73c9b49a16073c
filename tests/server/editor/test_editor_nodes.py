"""Our nodes in ComfyUI's graph editor: old workflows, sizes, names and help pages, and the toast about twins."""

import functools
import json

import pytest
from chromium import CLASSIC, describe
from conftest import CHECKOUT

pytestmark = pytest.mark.newest

GEOMETRY = json.loads((CHECKOUT / "tests" / "original_geometry.json").read_text(encoding="utf-8"))
TITLE = 30

LOAD = """async (workflow) => {
    await app.loadGraphData(workflow)
    return app.graph.nodes.map((node) => ({
        type: node.type,
        known: node.constructor === LiteGraph.registered_node_types[node.type],     // else a placeholder
        widgets: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
    }))
}"""

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
SEVEN = tuple(WIDGETS)

# The boxes of a workflow's nodes with their titles, [x, y, width, height].
BOXES = """async (workflow) => {
    await app.loadGraphData(workflow)
    return Object.fromEntries(app.graph.nodes.map((node) => [node.id, [...node.getBounding()]]))
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


def old_workflow():
    """All nodes of the pack as the original saved them in 2024: no inputs for widgets, values by position."""
    nodes = [{"id": number, "type": kind, "pos": [0, 400 * number], "size": {"0": 315, "1": 200}, "flags": {}, "order": number,
              "mode": 0, "properties": {"Node name for S&R": kind}, "widgets_values": list(values.values())}
             for number, (kind, values) in enumerate(WIDGETS.items())]
    return {"last_node_id": len(nodes), "last_link_id": 0, "nodes": nodes, "links": [], "groups": [], "config": {}, "extra": {},
            "version": 0.4}


def test_values_of_an_old_workflow_land_in_their_widgets(canvas):
    """Widgets that came later stand behind the original's, at their defaults."""
    info = canvas.client.object_info()
    loaded = canvas.evaluate(LOAD, old_workflow())
    assert [node["type"] for node in loaded if node["known"]] == list(SEVEN)
    for node in loaded:
        later = {name: options["default"] for name, (_, options) in info[node["type"]]["input"].get("optional", {}).items()
                 if "default" in options}
        assert node["widgets"] == {**later, **WIDGETS[node["type"]]}


def overlap(one, two):
    return all(one[axis] < two[axis] + two[axis + 2] and two[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


@pytest.mark.parametrize("canvas", CLASSIC, indirect=True, ids=describe)
def test_nothing_of_ours_covers_what_was_free(canvas):
    """The original's example workflows: its nodes at the place and in the size in which they were saved."""
    for name, workflow in GEOMETRY["workflows"].items():
        saved = dict(enumerate(workflow, 1))
        boxes = {number: (one["pos"][0], one["pos"][1] - TITLE, one["size"][0], one["size"][1] + TITLE)
                 for number, one in saved.items()}
        ours = [number for number, one in saved.items() if one["type"] in SEVEN]
        nodes = [{"id": number, **saved[number], "flags": {}, "order": number, "mode": 0, "inputs": [], "outputs": [],
                  "properties": {}} for number in ours]
        drawn = canvas.evaluate(BOXES, {"last_node_id": len(saved), "last_link_id": 0, "nodes": nodes, "links": [],
                                        "groups": [], "config": {}, "extra": {}, "version": 0.4})
        now = {**boxes, **{number: drawn[str(number)] for number in ours}}
        assert len(ours) >= 3
        covered = [(saved[one]["type"], saved[two]["type"]) for one in ours for two in boxes if two != one
                   and overlap(now[one], now[two]) and not overlap(boxes[one], boxes[two])]
        assert covered == [], name


def search(page, words, names):
    """Searches for nodes, until those of the names are found."""
    page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.locator("[role=combobox][aria-controls=results-list]").fill(words)
    for name in names:
        page.locator("#results-list").get_by_text(name, exact=True).first.wait_for()
    page.keyboard.press("Escape")
    page.locator("#results-list").wait_for(state="hidden")


def test_chinese_names_and_help_page(client, editor):
    with editor.second_page(client, locale="zh"):
        titles = editor.evaluate("(ids) => ids.map((id) => LiteGraph.createNode(id).title)", list(SEVEN))
        for words in ("换脸", "face swap"):
            editor.drive(functools.partial(search, words=words, names=["应用 InstantID", "InstantID 重绘人脸"]))
        editor.evaluate(SHOW_HELP, "ApplyInstantID")
        assert editor.wait_for("() => document.body.innerText.includes('1016 x 1016 像素')")
    chinese = json.loads((CHECKOUT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert titles == [chinese[name]["display_name"] for name in SEVEN]


def test_a_toast_names_packs_with_our_ids(editor, forgetful):
    with editor.second_page(forgetful.client):
        text = " ".join(editor.wait_for(TOAST).split())
    assert "custom_nodes/twin_imported_after and custom_nodes/twin_imported_before and custom_nodes/InstantID-Swift" in text
    assert "Keep one of these folders" in text
    assert "custom_nodes/InstantID-Swift for ApplyInstantID" in text
    assert "custom_nodes/twin_imported_after for FaceKeypointsPreprocessor" in text
    assert forgetful.log.read_text(encoding="utf-8").count("register the same nodes") == 1
