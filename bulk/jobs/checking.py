"""What is checked before anything runs: the workflow against a server, and every row against the workflow."""
import math
from collections.abc import Iterator

from bulk import BulkError
from bulk.jobs.plan import Plan
from bulk.jobs.workflow import title

MOST_PROBLEMS = 20      # are told; more would hide what matters
KEPT_VALUES = 4096
NUMBERS = {"INT": int, "FLOAT": (int, float)}


def server_problems(plan: Plan, info: dict) -> list[str]:
    """Why a server cannot run a plan's workflow. info: its /object_info for the workflow's classes."""
    workflow, found = plan.workflow, []
    targets = {(target.node, target.input) for target in plan.targets.values()}
    for key, node in workflow.nodes.items():
        name = node["class_type"]
        if name not in info:
            found.append(f"It has no node {name}: install the pack that has it, or a newer version of it.")
            continue
        offered = inputs_of(info, name)
        for field, value in node["inputs"].items():
            if field not in offered or is_upload(offered[field]) or (key, field) in targets or isinstance(value, list):
                continue
            choices = choices_of(offered[field])
            if choices is not None and value not in choices:
                found.append(f"{title(node)}: it does not have {value!r} for {field}. Put the file there, or choose what it "
                             "has.")
    for key, field in sorted(targets):
        name = workflow.nodes[key]["class_type"]
        if name in info and field not in inputs_of(info, name):
            found.append(f"{title(workflow.nodes[key])}: the node {name} has no input {field}. It has: "
                         f"{', '.join(inputs_of(info, name))}.")
    if info and not any(info.get(name, {}).get("output_node") for name in workflow.classes):
        found.append("The workflow has no output node: add Save Image.")
    return list(dict.fromkeys(found))


def row_problems(plan: Plan, info: dict) -> list[str]:
    """What is wrong in the rows, at most MOST_PROBLEMS sentences. Of a product each value is looked at once."""
    found, seen, unused = [], set(), set(plan.targets)
    for place, name, value in _cells(plan):
        unused.discard(name)
        key = (name, value if isinstance(value, str | int | float) else repr(value))
        if key in seen:
            continue
        if len(seen) < KEPT_VALUES:
            seen.add(key)
        problem = _problem(plan, info, name, value)
        if problem:
            found.append(f"{place}: {problem}")
            if len(found) == MOST_PROBLEMS:
                return [*found, "There may be more."]
    return [*found, *(f"{name} is in [files] or [inputs], but no job has a value for it." for name in sorted(unused))]


def _cells(plan: Plan) -> Iterator[tuple[str, str, object]]:
    """(place, column, value) of all there is to check."""
    axes = plan.rows.axes
    if axes is not None:
        for name, values in axes.items():
            # of a long range the ends are enough
            for value in (values[0], values[-1]) if isinstance(values, range) else values:
                yield f"[product] {name}", name, value
        return
    for number, row in enumerate(plan.rows.each, 1):
        for name, value in row.items():
            if name in plan.targets:
                yield f"Row {number} of {plan.settings.table.name}", name, value


def _problem(plan: Plan, info: dict, name: str, value: object) -> str:
    try:
        path = plan.path(name, value)
        if path and not path.is_file():
            return f"there is no file {path}."
        if name in plan.settings.files:
            return ""
        value = plan.value(name, value)
    except BulkError as error:
        return str(error)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name} is {value}; it must be a number that can be written in digits."
    target = plan.targets[name]
    class_type = plan.workflow.nodes[target.node]["class_type"]
    declaration = inputs_of(info, class_type).get(target.input) if class_type in info else None
    if not declaration:
        return ""
    choices, kind, options = choices_of(declaration), declaration[0], options_of(declaration)
    if choices is not None:
        known = ", ".join(map(str, choices[:10])) + (" and more" if len(choices) > 10 else "")
        return "" if value in choices or is_upload(declaration) else f"{name} {value!r} is not offered; there are: {known}."
    if kind in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, NUMBERS[kind]):
            return f"{name} is {value!r}; the node wants a number of the kind {kind}."
        low, high = options.get("min"), options.get("max")
        if low is not None and value < low or high is not None and value > high:
            return f"{name} is {value}; the node takes {low} to {high}."
    if kind == "STRING" and not isinstance(value, str):
        return f"{name} is {value!r}; the node wants a text."
    return ""


# ---- /object_info: the declaration of an input is [kind] or [kind, options] ----

def inputs_of(info: dict, name: str) -> dict:
    """{input: declaration} of a node class, required inputs first."""
    declared = info[name].get("input") or {}
    return {**declared.get("required", {}), **declared.get("optional", {})}


def options_of(declaration: list) -> dict:
    return declaration[1] if len(declaration) > 1 else {}


def choices_of(declaration: list) -> list | None:
    """What a drop-down offers; None where the input is none. ComfyUI has an old and a new notation."""
    if isinstance(declaration[0], list):
        return declaration[0]
    return options_of(declaration).get("options") if declaration[0] == "COMBO" else None


def is_upload(declaration: list) -> bool:
    """Whether an input takes a file of the server's input folder: what is there now does not matter."""
    return any(options_of(declaration).get(key) for key in ("image_upload", "video_upload", "audio_upload", "file_upload"))
