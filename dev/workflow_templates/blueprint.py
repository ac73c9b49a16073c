"""The subgraph "InstantID portrait": all loaders and Apply InstantID in one node."""

import uuid

from workflow_templates.graph import Node, columns, linked
from workflow_templates.parts import adapter, analysis, control_net

NAME = "InstantID portrait"
ID = str(uuid.uuid5(uuid.NAMESPACE_URL, NAME))
INPUT, OUTPUT = -10, -20    # numbers that the editor gives the two ends of a subgraph
SOCKETS = (("photo", "IMAGE", "image"), ("model", "MODEL", "model"), ("positive", "CONDITIONING", "positive"),
           ("negative", "CONDITIONING", "negative"), ("pose", "IMAGE", "image_kps"))    # name, type, Apply's input
RESULTS = (("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"))
EDGE = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
SHOWN = ("weight", "start_at", "end_at")    # widgets of Apply that the node shows


def blueprint():
    """The blueprint, as the editor saves one."""
    loaders = [control_net(), adapter(), analysis()]
    net, opened, faces = loaders
    apply = Node("ApplyInstantID", [0.8, 0, 1]).joined(control_net=net[0], instantid=opened[0], insightface=faces[0])
    entries, links = linked(columns(loaders, [apply]))
    inside = next(entry for entry in entries if entry["id"] == apply.id)
    slots = {slot["name"]: (number, slot) for number, slot in enumerate(inside["inputs"])}
    edges = [dict(zip(EDGE, link, strict=True)) for link in links]
    inputs, outputs = [], []

    def edge(kind, **ends):
        edges.append({"id": len(edges) + 1, **ends, "type": kind})
        return edges[-1]["id"]

    for number, (name, kind, target) in enumerate(SOCKETS):
        slot, entry = slots[target]
        entry["link"] = edge(kind, origin_id=INPUT, origin_slot=number, target_id=apply.id, target_slot=slot)
        inputs.append({"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"in {name}")), "name": name, "type": kind,
                       "linkIds": [entry["link"]], "pos": [-60, 40 + 20 * number]})
    for number, (name, kind) in enumerate(RESULTS):
        link = edge(kind, origin_id=apply.id, origin_slot=number, target_id=OUTPUT, target_slot=number)
        inside["outputs"][number]["links"].append(link)
        outputs.append({"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"out {name}")), "name": name, "type": kind, "linkIds": [link],
                        "pos": [820, 40 + 20 * number]})
    subgraph = {
        "id": ID, "version": 1, "revision": 0, "config": {}, "name": NAME,
        "state": {"lastGroupId": 0, "lastNodeId": len(entries), "lastLinkId": len(edges), "lastRerouteId": 0},
        "inputNode": {"id": INPUT, "bounding": [-160, 20, 120, 140]},
        "outputNode": {"id": OUTPUT, "bounding": [800, 20, 120, 100]},
        "inputs": inputs, "outputs": outputs, "widgets": [], "nodes": entries, "groups": [], "links": edges, "extra": {},
        "category": "InstantID"}
    node = {
        "id": 1, "type": ID, "pos": [0, 0], "size": [320, 260], "flags": {}, "order": 0, "mode": 0, "title": NAME,
        "inputs": [{"name": name, "type": kind, "link": None} for name, kind, _ in SOCKETS],
        "outputs": [{"name": name, "type": kind, "links": []} for name, kind in RESULTS],
        "properties": {"proxyWidgets": [[str(apply.id), name] for name in SHOWN]}, "widgets_values": []}
    return {"revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4,
            "definitions": {"subgraphs": [subgraph]}, "extra": {}}
