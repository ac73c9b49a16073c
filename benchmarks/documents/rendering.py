"""Figures in documents: filled in from the files of figures, and checked against them.

A figure in a sentence, and a table, between comments that no reader sees:

    <!--=cpu#faces/opening/3 networks/ours/seconds * 1000:.0f-->47<!--=--> ms

    <!-- figures: cpu#sampling/batch 1:.1f | ms per step | ratio to plain -->
    ...
    <!-- end -->

README.md in this folder says how to write them. Documents that tell of measurements may hold no figure without such a
comment, unless it is marked as one of somebody else's (quoted) or as one that is set, not measured (specification):

    <!-- quoted -->
    ...
    <!-- end -->
    A line of its own. <!-- specification -->
"""

import contextlib
import operator
import re

from benchmarks import CHECKOUT
from benchmarks.support import files

from . import tables

# documents in which every measured figure must come from a file
MEASURED = ("PERFORMANCE_REPORT.md", "DEVICE_TRANSFER_PLAN.md", ".github_issues/*.md")
DOCUMENTS = ("README.md", "CHANGELOG.md", *MEASURED)

INLINE = re.compile(r"(?P<open><!--=(?P<what>[^<>]+)-->)(?P<shown>.*?)(?P<close><!--=-->)")
BLOCK = re.compile(r"(?P<open>^<!-- figures: (?P<what>[^<>]+) -->\n)(?P<shown>.*?)(?P<close>^<!-- end -->$)", re.M | re.S)
FREE_LINE = re.compile(r"^.*\S.*<!-- (?:quoted|specification) -->.*$", re.M)
FREE_BLOCK = re.compile(r"^<!-- (?:quoted|specification) -->$.*?^<!-- end -->$", re.M | re.S)
LEFT = re.compile(r"<!--=|<!-- (?:figures:|end -->|quoted -->|specification -->)")
AT_START = re.compile(r"^\s*(?:[-*>]\s+|\d+\.\s+)*<!--=", re.M)
PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)([^)\s]+\.png)")
FORMAT = re.compile(r"[,_]?(?:\.\d+)?[defg%s]")
UNIT = r"(?:µs|ms|s|seconds?|milliseconds?|minutes?|[kKMGT]i?B|bytes|%|per ?cent|times|x|×)"
FIGURE = re.compile(rf"(?<![\w.,#])\d(?:[\d.,]*\d)?\s?{UNIT}(?!\w|\s?\d)")
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def documents():
    """Those that exist: {path: whether every figure must be marked}."""
    return {path: name in MEASURED for name in DOCUMENTS for path in sorted(CHECKOUT.glob(name))}


def filled(text, folder=files.RESULTS):
    """The text with all figures as the files in a folder have them. FileError where one cannot be had."""
    text = BLOCK.sub(lambda found: found["open"] + block(found["what"], folder) + found["close"], text)
    return INLINE.sub(lambda found: found["open"] + inline(found["what"], folder) + found["close"], text)


def inline(what, folder):
    """'cpu#faces/opening/3 networks/ours/seconds * 1000:.0f' -> '47'. One step after the other, from left to right."""
    content, path, form = _parts(what, folder)
    if not form:
        raise files.FileError(f"{what!r} lacks a format: end it as in Python, with ':.1f', ':,d' or ':s'.")
    first, *others = re.split(r" ([-+*/]) ", path)
    try:
        value = _operand(content, first)
        for sign, other in zip(others[::2], others[1::2], strict=True):
            value = OPERATIONS[sign](value, _operand(content, other))
        return format(value, form)
    except files.FileError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise files.FileError(f"{what!r} cannot be computed: {error}.") from error


def _operand(content, text):
    try:
        return float(text)
    except ValueError:
        return files.figure(content, text)


def block(what, folder):
    """'cpu#sampling/batch 1:.1f | ms per step' -> a table."""
    what, *columns = what.split(" | ")
    content, path, form = _parts(what, folder)
    node = files.figure(content, path)
    if not isinstance(node, dict):
        raise files.FileError(f"{path!r} is one figure, {node!r}, and makes no table.")
    missing = set(columns) - set(_keys(node))
    if missing:
        raise files.FileError(f"{path!r} has no column {', '.join(sorted(missing))}.")
    return "\n".join(tables.table({"": node}, columns, form)) + "\n"


def _keys(node):
    for key, value in node.items():
        yield key
        if isinstance(value, dict):
            yield from _keys(value)


def _parts(what, folder):
    """(content of the file, path, format) of 'FILE#PATH:FORMAT'."""
    name, _, path = what.partition("#")
    path, _, form = path.rpartition(":") if FORMAT.fullmatch(path.rpartition(":")[2]) else (path, "", "")
    return files.read(folder / f"{name}.json"), path, form


def update(path):
    """Fills in a document; returns what is left to complain of, as `check` does."""
    with contextlib.suppress(files.FileError):  # which of the figures it is, `check` says
        path.write_text(filled(path.read_text()))
    return check(path)


def check(path):
    """What is wrong with the figures of a document and with the charts in it: a list of complaints."""
    from . import charts
    text = path.read_text()
    pictures = [path.parent / name for name in PICTURE.findall(text)]
    return problems(text, documents().get(path.resolve(), False)) + [
        f"{picture.name} shows other figures than its files have: draw it again with `report --charts`."
        for picture in pictures if picture.exists() and charts.outdated(picture)]


def problems(text, measured, folder=files.RESULTS):
    """What is wrong with the figures of a document: a list of 'line 7: ...'. measured: whether all must be marked."""
    wrong = []

    def complain(position, complaint):
        wrong.append((text.count("\n", 0, position) + 1, complaint))

    for pattern, fill in ((BLOCK, block), (INLINE, inline)):
        for found in pattern.finditer(text):
            try:
                right = fill(found["what"], folder)
            except files.FileError as error:
                complain(found.start(), str(error))
                continue
            if found["shown"] != right:
                complain(found.start(), f"{found['shown']!r} should be {right!r}, by {found['what']}.")
    for found in AT_START.finditer(text):
        complain(found.end(), "a line that begins with a comment is no paragraph on GitHub: put a word before it.")
    blank = text
    for pattern in (BLOCK, FREE_BLOCK, FREE_LINE, INLINE):
        blank = pattern.sub(lambda found: re.sub(r"[^\n]", "#", found[0]), blank)  # as long, so that positions stay
    for found in LEFT.finditer(blank):
        complain(found.start(), f"{found[0]!r} has no counterpart.")
    if measured:
        for found in FIGURE.finditer(blank):
            complain(found.start(), f"{found[0]!r} does not say which file it is from.")
    return [f"line {line}: {complaint}" for line, complaint in sorted(wrong)]
