"""What is checked before anything runs: the workflow against a server, and every row against the workflow."""
import math
from collections.abc import Iterator

from bulk import BulkError
from bulk.jobs.plan import Plan
from bulk.jobs.workflow import title

MOST_PROBLEMS = 20      # are told; more would hide what matters
NUMBERS = {"INT": int, "FLOAT": (int, float)}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")


def inputs_of(info: dict, name: str) -> dict[str, tuple[str, list | None, dict]]:
    """{input: (kind, choices, options)} of a node class in /object_info, required inputs first.

    choices: of a drop-down, for which ComfyUI has an old and a new notation; None for other inputs, and for one that takes
    uploads: what the server has there now does not matter.
    """
    declared, found = info[name].get("input") or {}, {}
    for field, (kind, *more) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        options = more[0] if more else {}
        choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
        found[field] = (str(kind), None if any(map(options.get, UPLOADS)) else choices, options)
    return found


def server_problems(plan: Plan, info: dict) -> list[str]:
    """The reasons why a server cannot run a plan's workflow. info: its /object_info for the workflow's classes."""
    workflow, found = plan.workflow, []
    targets = {(target.node, target.input) for target in plan.targets.values()}
    for key, node in workflow.nodes.items():
        name = node["class_type"]
        if name not in info:
            found.append(f"It has no node {name}: install the pack that has it, or a newer version of it.")
            continue
        offered = inputs_of(info, name)
        for field, value in node["inputs"].items():
            choices = offered[field][1] if field in offered else None
            if choices is not None and value not in choices and (key, field) not in targets and not isinstance(value, list):
                found.append(f"{title(node)}: it does not have {value!r} for {field}. Put the file there, or choose what it "
                             "has.")
        found += [f"{title(node)}: the node {name} has no input {field}. It has: {', '.join(offered)}."
                  for owner, field in sorted(targets) if owner == key and field not in offered]
    if info and not any(info.get(name, {}).get("output_node") for name in workflow.classes):
        found.append("The workflow has no output node: add Save Image.")
    return list(dict.fromkeys(found))


def row_problems(plan: Plan, info: dict) -> list[str]:
    """The problems in the rows, at most MOST_PROBLEMS sentences. Of a product each value is looked at once."""
    found, seen, unused = [], set(), set(plan.targets)
    for place, name, value in _cells(plan):
        unused.discard(name)
        key = hash((name, repr(value)))
        if key in seen:
            continue
        seen.add(key)
        if problem := _problem(plan, info, name, value):
            found.append(f"{place}: {problem}")
            if len(found) == MOST_PROBLEMS:
                return [*found, "There may be more."]
    return [*found, *(f"{name} is in [files] or [inputs], but no job has a value for it." for name in sorted(unused))]


def _cells(plan: Plan) -> Iterator[tuple[str, str, object]]:
    """(place, column, value) of all there is to check."""
    if not plan.settings.table:
        yield from ((f"[product] {name}", name, value) for name, values in plan.axes.items() for value in values)
        return
    for number, row in enumerate(plan.rows, 1):
        yield from ((f"Row {number} of {plan.settings.table.name}", name, row[name]) for name in row if name in plan.targets)


def _problem(plan: Plan, info: dict, name: str, value: object) -> str:
    try:
        path = plan.path(name, value)
        if path and not path.is_file():
            return f"there is no file {path}."
        value = plan.value(name, value)
    except BulkError as error:
        return str(error)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name} is {value}; it must be a number that can be written in digits."
    target = plan.targets[name]
    class_type = plan.workflow.nodes[target.node]["class_type"]
    declared = inputs_of(info, class_type) if class_type in info else {}
    if name in plan.settings.files or target.input not in declared:
        return ""
    kind, choices, options = declared[target.input]
    if choices is not None and value not in choices:
        known = ", ".join(map(str, choices[:10])) + (" and more" if len(choices) > 10 else "")
        return f"{name} {value!r} is not offered; there are: {known}."
    if kind in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, NUMBERS[kind]):
            return f"{name} is {value!r}; the node wants a number of the kind {kind}."
        low, high = options.get("min", -math.inf), options.get("max", math.inf)
        if not low <= value <= high:
            return f"{name} is {value}; the node takes {low} to {high}."
    if kind == "STRING" and not isinstance(value, str):
        return f"{name} is {value!r}; the node wants a text."
    return ""
