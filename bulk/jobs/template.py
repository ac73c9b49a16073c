"""An exported template (the editor's own form of a workflow) in API form.

The editor does this with the nodes' JavaScript at hand. Here it is done for what templates are made of: nodes, links and
widgets. What only the editor can resolve is refused, with the advice to export the API form.
"""
from bulk import BulkError
from bulk.jobs.declarations import default_of, inputs_of, is_widget, options_of

VIRTUAL = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
ADVICE = "Open the workflow in ComfyUI and use the menu File > Export (API)."


def is_template(content: dict) -> bool:
    return isinstance(content.get("nodes"), list) and isinstance(content.get("links"), list)


def to_api(content: dict, info: dict) -> dict:
    """{id: {"class_type", "inputs", "_meta"}} of a template. info: /object_info of its classes. Raises BulkError."""
    if (content.get("definitions") or {}).get("subgraphs"):
        raise BulkError(f"The workflow has subgraphs, which only ComfyUI itself can resolve. {ADVICE}")
    nodes = {node["id"]: node for node in content["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in content["links"]}      # id: (node, output)
    return {str(key): _node(node, nodes, links, info) for key, node in nodes.items()
            if node["type"] not in VIRTUAL and node.get("mode", 0) == 0}


def _node(node: dict, nodes: dict, links: dict, info: dict) -> dict:
    if node["type"] not in info:
        raise BulkError(f"The server has no node {node['type']}, which the workflow uses. Install the pack that has it.")
    inputs = _widget_values(node, inputs_of(info, node["type"]))
    for slot in node.get("inputs") or []:
        if slot.get("link") is not None:
            inputs[slot["name"]] = _source(links[slot["link"]], nodes, links)
    return {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node.get("title") or node["type"]}}


def _widget_values(node: dict, offered: dict) -> dict:
    """{input: value} of a node's widgets: their values stand in the order in which the node declares its inputs.

    A widget that is newer than the template has no value there: it gets its default, as in the editor.
    """
    values = node.get("widgets_values") or []
    widgets = {name: declaration for name, declaration in offered.items() if is_widget(declaration)}
    found = {name: default for name, declaration in widgets.items() if (default := default_of(declaration)) is not None}
    if isinstance(values, dict):
        return {**found, **{name: value for name, value in values.items() if name in offered}}
    rest = list(values)
    for name, declaration in widgets.items():
        if not rest:
            break
        found[name] = rest.pop(0)
        # the editor adds a widget of its own behind a seed; older templates have it without being told to
        if declaration[0] == "INT" and rest and rest[0] in AFTER_GENERATE and \
                (options_of(declaration).get("control_after_generate") or name in ("seed", "noise_seed")):
            rest.pop(0)
    return found


def _source(end: tuple, nodes: dict, links: dict) -> list | object:
    """[node id, output] where a link begins, reroutes left out; the value itself where a primitive gives it."""
    key, output = end
    node = nodes[key]
    if node["type"] == "PrimitiveNode":
        return node["widgets_values"][0]
    if node["type"] == "Reroute":
        link = node["inputs"][0].get("link")
        if link is None:
            raise BulkError(f"Node {key} of the workflow (Reroute) has nothing connected to it. {ADVICE}")
        return _source(links[link], nodes, links)
    if node.get("mode", 0) != 0:
        raise BulkError(f"Node {key} of the workflow ({node['type']}) is muted or bypassed, and others depend on it. {ADVICE}")
    return [str(key), output]
