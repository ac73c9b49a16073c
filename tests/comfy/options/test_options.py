"""InstantID Options: what it offers, what it refuses, and that its defaults are the original's behaviour."""

import inspect

import pytest
from instantid_swift.options.nodes import DEFAULTS
from oracle import cases

pytestmark = pytest.mark.newest

WITH_OPTIONS = ("ApplyInstantID", "ApplyInstantIDAdvanced", "InstantIDAttentionPatch", "FaceKeypointsPreprocessor")


def widgets(nodes):
    return nodes["InstantIDOptions"].INPUT_TYPES()["required"]


def test_untouched_it_is_the_default(nodes):
    values = {name: options["default"] for name, (_, options) in widgets(nodes).items()}
    assert cases.call(nodes, "InstantIDOptions", **values) == (DEFAULTS,)


@pytest.mark.parametrize("node", WITH_OPTIONS)
def test_options_are_the_last_input_of_the_editor_and_of_the_call(nodes, node):
    assert list(nodes[node].INPUT_TYPES()["optional"])[-1] == "options"
    last = list(inspect.signature(getattr(nodes[node], nodes[node].FUNCTION)).parameters.values())[-1]
    assert last.name == "options" and last.default is DEFAULTS


def test_every_choice_is_accepted(nodes):
    plain = {name: options["default"] for name, (_, options) in widgets(nodes).items()}
    for name, (kind, _) in widgets(nodes).items():
        for choice in kind if isinstance(kind, list) else ():
            made, = cases.call(nodes, "InstantIDOptions", **{**plain, name: choice})
            assert choice in (*made, made.choice.order)
            assert made.factors("as original")


def test_block_weights_are_read_when_queued(nodes):
    check = nodes["InstantIDOptions"].VALIDATE_INPUTS
    assert all(check(text) is True for text in ("", "input 4: 0.5, middle: 1", None))
    assert "'outer 3: 1' cannot be read" in check("outer 3: 1")
