"""A workflow in ComfyUI's API form: reading it, finding its inputs by node title or id."""
import json
from pathlib import Path
from typing import NamedTuple

from bulk import BulkError


class Target(NamedTuple):
    """An input of a node. value: what the workflow itself has there, None where it has nothing."""

    node: str
    input: str
    value: object = None


class Workflow:
    """Nodes of a workflow: {id: {"class_type", "inputs", "_meta": {"title"}}}."""

    def __init__(self, nodes: dict[str, dict]):
        self.nodes = nodes

    @property
    def classes(self) -> list[str]:
        return sorted({node["class_type"] for node in self.nodes.values()})

    def find(self, name: str) -> str:
        """The id of the node with this id or title. Raises BulkError."""
        if name in self.nodes:
            return name
        found = [key for key, node in self.nodes.items() if title(node) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise BulkError(f"{len(found)} nodes have the title {name!r}: use an id ({', '.join(found)}) or other titles.")
        offered = ", ".join(f"{key} ({title(node)})" for key, node in self.nodes.items())
        raise BulkError(f"The workflow has no node {name!r}. It has: {offered}.")

    def target(self, text: str) -> Target:
        """The input that "title.input" or "id.input" names. Raises BulkError."""
        node, _, name = text.rpartition(".")
        if not node or not name:
            raise BulkError(f"{text!r} does not name an input. Write the node's title or id, a dot, and the input: "
                            '"Positive prompt.text".')
        key = self.find(node)
        value = self.nodes[key]["inputs"].get(name)
        if isinstance(value, list):
            raise BulkError(f"The input {text!r} is connected to node {value[0]}. Name the node where the value is typed in, "
                            "or remove the connection.")
        return Target(key, name, value)


def title(node: dict) -> str:
    """What the editor shows as the node's name."""
    return (node.get("_meta") or {}).get("title") or node["class_type"]


def read(path: Path) -> Workflow:
    """The workflow of a file. Raises BulkError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BulkError(f"The workflow {path} cannot be read as JSON: {error}.") from error
    nodes = content.get("prompt", content) if isinstance(content, dict) else None
    good = isinstance(nodes, dict) and nodes and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in nodes.values())
    if not good:
        raise BulkError(f"{path} is not a workflow in API form. Open it in ComfyUI and use the menu File > Export (API).")
    return Workflow(nodes)
