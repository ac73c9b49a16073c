"""Every node is explained: aliases, tooltips, names in every language, help pages."""

import json
import re
from pathlib import Path

import pytest
from instantid_swift import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

import locales

pytestmark = pytest.mark.newest


@pytest.mark.parametrize("node_id", NODE_CLASS_MAPPINGS)
def test_a_node_is_described(node_id):
    node = NODE_CLASS_MAPPINGS[node_id]
    assert node_id in NODE_DISPLAY_NAME_MAPPINGS
    assert node.DESCRIPTION.endswith(".") and node.CATEGORY.split("/")[0] == "InstantID"
    assert node.SEARCH_ALIASES and node.SEARCH_ALIASES == [alias.lower() for alias in node.SEARCH_ALIASES]
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES) and all(node.OUTPUT_TOOLTIPS)
    groups = node.INPUT_TYPES()
    for group in ("required", "optional"):
        for name, (_, options) in groups.get(group, {}).items():
            assert options.get("tooltip"), f"the input {name} has no tooltip"


def test_every_text_is_there_in_every_language():
    """The message lists what to add, file by file. For a new node: run python dev/locales.py, which writes the English names,
    add the same keys in Chinese, and write its two help pages."""
    faults = locales.faults(locales.entries(NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS))
    assert not faults, "\n".join(faults)


def test_chinese_texts_call_the_nodes_by_their_names():
    folder = Path(locales.__file__).resolve().parents[1]
    texts = [folder / "locales" / "zh" / "nodeDefs.json", *(folder / "web" / "docs").glob("*/zh.md")]
    names = {entry["display_name"] for entry in json.loads(texts[0].read_text(encoding="utf-8")).values()}
    called = {name for path in texts for name in re.findall("“([^”]*InstantID[^”]*)”", path.read_text(encoding="utf-8"))}
    assert len(called) > 10 and called <= names, called - names
