"""A workflow as the original pack saved it, in the server's own graph editor in headless Chromium.

Skipped where there is no Chromium.
"""

import pytest
from chromium import ON_EVERY_EDITOR

pytestmark = ON_EVERY_EDITOR

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


def old_workflow():
    """All nodes of the pack as the original saved them in 2024: no inputs for widgets, values by position."""
    nodes = [{"id": number, "type": kind, "pos": [0, 400 * number], "size": {"0": 315, "1": 200}, "flags": {}, "order": number,
              "mode": 0, "properties": {"Node name for S&R": kind}, "widgets_values": list(values.values())}
             for number, (kind, values) in enumerate(WIDGETS.items())]
    return {"last_node_id": len(nodes), "last_link_id": 0, "nodes": nodes, "links": [], "groups": [], "config": {}, "extra": {},
            "version": 0.4}


@pytest.fixture(scope="module")
def loaded(client, editor):
    """What the editor made of the old workflow: its nodes."""
    editor.open(client)
    return editor.evaluate(LOAD, old_workflow())


@pytest.fixture(scope="module")
def info(client):
    return client.object_info()


def later_widgets(info, kind, known):
    """The widgets that a node has beside the known ones, at their defaults."""
    inputs = info[kind]["input"].get("optional", {})
    return {name: options["default"] for name, (_, options) in inputs.items() if "default" in options and name not in known}


def test_every_node_is_known(loaded):
    assert [n["type"] for n in loaded] == list(WIDGETS)
    assert [n["type"] for n in loaded if not n["known"]] == []


@pytest.mark.parametrize("kind", WIDGETS)
def test_old_values_land_in_their_widgets(loaded, info, kind):
    found, = (n["widgets"] for n in loaded if n["type"] == kind)
    assert found == {**WIDGETS[kind], **later_widgets(info, kind, WIDGETS[kind])}
