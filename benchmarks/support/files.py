"""The files of figures: how they are written, read, and asked for one figure.

    {"machine": {...}, "versions": {...}, "settings": {...},
     "stages": {name: {"settings": {...}, "seconds": what measuring took, "figures": {...}}}}

A stage that failed has "error" in place of "figures".
"""

import json
from pathlib import Path

from benchmarks import CHECKOUT

RESULTS = CHECKOUT / "benchmarks" / "results"


class FileError(ValueError):
    """A file cannot be read, lacks what is asked for, or must not be compared; the message says which and why."""


def write(path, machine, versions, settings, stages):
    content = {"machine": machine, "versions": versions, "settings": settings, "stages": stages}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def read(path):
    try:
        content = json.loads(Path(path).read_text())
        return {key: content[key] for key in ("machine", "versions", "settings", "stages")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is no file of figures: {type(error).__name__}: {error}") from error


def read_comparable(paths):
    """{name of the file: its content} of several files, all of one machine."""
    contents = {Path(path).stem: read(path) for path in paths}
    if len(contents) < len(paths):
        raise FileError("Two of the files have the same name, and could not be told apart.")
    (first, content), *others = contents.items()
    for name, other in others:
        if other["machine"] != content["machine"]:
            raise FileError(f"{first} and {name} are of different machines and cannot be compared:\n"
                            f"  {first}: {describe(content['machine'])}\n  {name}: {describe(other['machine'])}")
    return contents


def describe(machine):
    """'AMD EPYC, 2 cores, 1 thread, no GPU'"""
    threads = machine.get("threads")
    return (f"{machine.get('processor')}, {machine.get('cores')} cores, {threads} thread{'s' * (threads != 1)}, "
            f"{machine.get('gpu') or 'no GPU'}")


def figure(content, path):
    """What a path leads to: 'faces/opening/3 networks/ours/seconds' begins with a stage, 'machine/cores', 'versions/torch' and
    'settings/quick' with what the file says besides."""
    found = {**{name: stage.get("figures", {}) for name, stage in content["stages"].items()},
             **{key: content[key] for key in ("machine", "versions", "settings")}}
    for step in path.split("/"):
        if not isinstance(found, dict) or step not in found:
            known = ", ".join(map(repr, found)) if isinstance(found, dict) else "nothing"
            raise FileError(f"There is no {step!r} of {path!r}; there is {known}.")
        found = found[step]
    return found
