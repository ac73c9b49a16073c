"""The check of what a node is given.

ComfyUI checks the values of widgets, but not all that can reach a node: an API workflow may hold constants in place of links,
JSON may hold NaN, a link may bring a value that a list of choices does not have, and other packs call nodes directly.
"""

import functools
import inspect
import math

from ..utils import MAKE_A_BATCH

SOURCES = {
    "instantid": "Load InstantID Model", "insightface": "InstantID Face Analysis", "faceanalysis": "InstantID Face Analysis",
    "control_net": "Load ControlNet Model", "model": "Load Checkpoint", "positive": "CLIP Text Encode",
    "negative": "CLIP Text Encode", "image": "Load Image", "image_kps": "Face Keypoints Preprocessor", "mask": "Load Image",
    "face_embeds": "InstantID Patch Attention", "options": "InstantID Options",
}
# what an object has that can be used: nodes with outputs of any type can connect an object of another kind
ATTRIBUTES = {"model": "model_options", "control_net": "set_cond_hint", "options": "no_face"}
PICTURES = ("image", "image_kps")
MOST_QUOTED = 80


class InputError(ValueError):
    """A node was given something that its input cannot be; the message names the input."""
    __module__ = "InstantID"  # what the editor shows before the name


def checked(method):
    """Decorator of a node's method: InputError before it runs, where an input is not what the node declares."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        groups, declared = type(self).INPUT_TYPES(), _declared(self)
        bound = signature.bind(self, *args, **kwargs)
        for name, value in {**bound.arguments, **kwargs}.items():
            absent = value is None and getattr(signature.parameters.get(name), "default", "") is None and not (
                name in SOURCES and name in groups.get("required", ()))
            if isinstance(value, list | tuple) and name in getattr(self, "TAKES_LISTS", ()) and value:
                continue
            if not absent and (name in declared or isinstance(value, float)):
                _check(name, value, declared.get(name, (None,)))
        return method(self, *args, **kwargs)
    return call


def reason_against_widgets(node, **widgets):
    """Returns a sentence about the first widget whose value is not what the node declares; an empty string if there is none.

    For VALIDATE_INPUTS, which ComfyUI calls with whatever a prompt holds. None: the value comes from another node.
    """
    declared = _declared(node)
    try:
        for name, value in widgets.items():
            if value is not None:
                _check(name, value, declared[name])
    except InputError as error:
        return str(error)
    return ""


def _declared(node):
    """{name: what the node declares} of all inputs of a node or its class."""
    return {name: spec for group in node.INPUT_TYPES().values() for name, spec in group.items()}


def _check(name, value, declared):
    kind = declared[0]
    if name in SOURCES:
        _check_link(name, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"The input {name} is {value}. Write a finite number.")
    elif kind in ("FLOAT", "INT") and (not isinstance(value, int | float) or kind == "INT" and int(value) != value):
        raise InputError(f"The input {name} must be a number, it is {_quoted(value)}.")
    elif kind == "STRING" and not isinstance(value, str):
        raise InputError(f"The input {name} must be a text, it is {_quoted(value)}.")
    elif isinstance(kind, list) and value not in kind:
        raise InputError(f"The input {name} must be one of {', '.join(map(repr, kind))}, it is {_quoted(value)}.")


def _check_link(name, value):
    if name in ("control_net", "face_embeds") and value is None:
        return  # what a loader gives whose file holds no ControlNet, and a bypassed InstantID Patch Attention; the node knows
    if name in ATTRIBUTES:
        usable = hasattr(value, ATTRIBUTES[name])
    elif name in ("positive", "negative"):
        usable = isinstance(value, list) and all(
            isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict) for entry in value)
    elif name == "face_embeds":
        usable = isinstance(value, dict) and all(getattr(value.get(part), "ndim", 0) == 3 for part in ("cond", "uncond"))
    else:
        usable = not isinstance(value, str | bytes | int | float | list | tuple | None)
    if not usable and name in PICTURES and isinstance(value, list | tuple):
        raise InputError(f"The input {name} is a Python list of {len(value)}, where a batch of pictures is needed. "
                         f"{MAKE_A_BATCH}")
    if not usable:
        raise InputError(f"The input {name} is {_quoted(value)}, which cannot be used. Connect the output of {SOURCES[name]}.")


def _quoted(value):
    """Some words for a value, at most MOST_QUOTED characters of it."""
    if isinstance(value, str | int | float | None):
        text = repr(value[:MOST_QUOTED] if isinstance(value, str) else value)
        return text if len(text) <= MOST_QUOTED + 2 else text[:MOST_QUOTED] + "…"
    return f"of the type {type(value).__name__}"
