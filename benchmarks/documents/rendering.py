"""Documents with figures, made from templates and files of figures, and checked against them.

A whole document (WHOLE) is made from the template of its name in `templates/`. Other documents (WITH_BLOCKS) are written by
hand; what they show of measurements stands in blocks, each made from a small template:

    <!-- generated: issue_6_blocks.md -->
    ...
    <!-- end -->

In a template, {{PATH:FORMAT}} is a figure, {{table PATH}} on a line of its own is a table, and every other measured figure is
an error unless the template says where it is from: {{quoted}} for somebody else's claim, {{specification}} for what is set or
computed from shapes. Either stands at the end of its line, or on a line of its own before what ends with {{end}}. README.md
of the benchmarks says how to write them.
"""

import operator
import re
from pathlib import Path

from benchmarks import CHECKOUT
from benchmarks.support import files

from . import tables

TEMPLATES = Path(__file__).resolve().parent / "templates"
WHOLE = ("PERFORMANCE_REPORT.md", "DEVICE_TRANSFER_PLAN.md")
WITH_BLOCKS = ("README.md", ".github_issues/*.md")
DEFAULT_FILE = "cpu"

FIELD = re.compile(r"\{\{(?P<what>[^{}\n]+)\}\}")
TABLE = re.compile(r"^\{\{table (?P<what>[^{}\n]+)\}\}$", re.M)
FREE_LINE = re.compile(r"^(?P<line>.*\S) \{\{(?:quoted|specification)\}\}$", re.M)
FREE_BLOCK = re.compile(r"^\{\{(?:quoted|specification)\}\}\n(?P<lines>.*?)^\{\{end\}\}\n", re.M | re.S)
BLOCK = re.compile(r"(?P<open>^<!-- generated: (?P<name>[\w.-]+) -->\n)(?P<shown>.*?)(?P<close>^<!-- end -->$)", re.M | re.S)
MARKER = re.compile(r"<!-- (?:generated:|end -->)")
PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)([^)\s]+\.png)")
FORMAT = re.compile(r"[,_]?(?:\.\d+)?[defg%s]")
NUMBER = r"(?<![\w.,#])\d(?:[\d.,]*\d)?\s?"
TIME = r"µs|ms|s|seconds?|milliseconds?|minutes?|times|x|×"
FIGURE = re.compile(rf"{NUMBER}(?:{TIME}|[kKMGT]i?B|bytes|%|per ?cent)(?!\w|\s?\d)")
# what the README may not say outside of a block; sizes of files and settings in percent are no measurements
TIMING = re.compile(rf"{NUMBER}(?:{TIME})(?!\w|\s?\d)")
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def documents():
    """Paths of all documents that hold figures."""
    return [path for name in (*WHOLE, *WITH_BLOCKS) for path in sorted(CHECKOUT.glob(name))]


def render(template, folder=files.RESULTS):
    """The text of a template with the figures of the files in a folder. FileError where a figure cannot be had."""
    text = FREE_BLOCK.sub(lambda found: found["lines"], template)
    text = FREE_LINE.sub(lambda found: found["line"], text)
    text = TABLE.sub(lambda found: table(found["what"], folder), text)
    return FIELD.sub(lambda found: inline(found["what"], folder), text)


def inline(what, folder):
    """'faces/opening/3 networks/ours/seconds * 1000:.0f' -> '47'. Operations apply one after the other, left to right."""
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


def table(what, folder):
    """'sampling/batch 1:.1f | ms per step' -> a table with that column."""
    what, *columns = what.split(" | ")
    content, path, form = _parts(what, folder)
    node = files.figure(content, path)
    if not isinstance(node, dict):
        raise files.FileError(f"{path!r} is one figure, {node!r}, and makes no table.")
    missing = set(columns) - set(_keys(node))
    if missing:
        raise files.FileError(f"{path!r} has no column {', '.join(sorted(missing))}.")
    return "\n".join(tables.table({"": node}, columns, form))


def _keys(node):
    for key, value in node.items():
        yield key
        if isinstance(value, dict):
            yield from _keys(value)


def _parts(what, folder):
    """(content of the file, path, format) of 'FILE#PATH:FORMAT' or 'PATH:FORMAT'."""
    name, _, path = what.rpartition("#")
    path, _, form = path.rpartition(":") if FORMAT.fullmatch(path.rpartition(":")[2]) else (path, "", "")
    return files.read(folder / f"{name or DEFAULT_FILE}.json"), path, form


def template_of(path):
    """The template of a whole document; None for a document with blocks."""
    return TEMPLATES / path.name if path.name in WHOLE else None


def generated(path, folder=files.RESULTS):
    """The text that a document shall have. FileError where a figure cannot be had, or a template is missing."""
    if template_of(path):
        return render(_template(path.name), folder)
    return BLOCK.sub(lambda found: found["open"] + render(_template(found["name"]), folder) + found["close"],
                     path.read_text(encoding="utf-8"))


def _template(name):
    try:
        return (TEMPLATES / name).read_text(encoding="utf-8")
    except OSError as error:
        raise files.FileError(f"There is no template {name}.") from error


def update(path):
    """Write what a document shall have; return what is left to complain of, as `check` does."""
    try:
        path.write_text(generated(path), encoding="utf-8")
    except files.FileError:  # `check` says which of the figures it is
        pass
    return check(path)


def check(path, folder=files.RESULTS):
    """What is wrong with a document, its templates and the charts in it: a list of complaints."""
    from . import charts
    text = path.read_text(encoding="utf-8")
    if template_of(path):
        wrong = [f"template, {complaint}" for complaint in template_problems(_template(path.name), folder)]
    else:
        names = dict.fromkeys(found["name"] for found in BLOCK.finditer(text))
        wrong = [f"template {name}, {complaint}" for name in names if (TEMPLATES / name).is_file()
                 for complaint in template_problems(_template(name), folder)]
        wrong += block_problems(text, TIMING if path.name == "README.md" and path.parent.name != ".github_issues" else FIGURE)
    if not wrong:
        try:
            wrong = differences(generated(path, folder), text)
        except files.FileError as error:
            wrong = [str(error)]
    pictures = [path.parent / name for name in PICTURE.findall(text)]
    return wrong + [f"{picture.name} shows other figures than its files have: draw it again with `report --charts`."
                    for picture in pictures if picture.exists() and charts.outdated(picture)]


def differences(right, text):
    """Where a document is not what it shall be: a list with the first line that differs."""
    if right == text:
        return []
    pairs = zip([*right.splitlines(), ""], [*text.splitlines(), ""], strict=False)
    number, (should, shown) = next(((number, pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1]),
                                   (0, ("", "another number of lines")))
    return [f"line {number}: {shown!r} should be {should!r}. Change the template, then `report --update`."]


def template_problems(template, folder=files.RESULTS):
    """What is wrong with a template: a list of 'line 7: ...'."""
    wrong = []
    for pattern, fill in ((TABLE, table), (FIELD, inline)):
        for found in pattern.finditer(template):
            if pattern is FIELD and (TABLE.fullmatch(found[0]) or found["what"] in ("quoted", "specification", "end")):
                continue
            try:
                fill(found["what"], folder)
            except files.FileError as error:
                wrong.append(_complaint(template, found.start(), str(error)))
    blank = template
    for pattern in (FREE_BLOCK, FREE_LINE, TABLE, FIELD):
        if pattern is FIELD:
            blank = re.sub(r"\{\{(?!quoted|specification|end)[^{}\n]+\}\}", _blank, blank)
        else:
            blank = pattern.sub(_blank, blank)
    wrong += [_complaint(template, found.start(), f"{found[0]!r} has no counterpart.")
              for found in re.finditer(r"\{\{\w*|\}\}", blank) if not (found[0] == "}}" and "{{" in blank)]
    wrong += [_complaint(template, found.start(), f"{found[0]!r} does not say which file it is from.")
              for found in FIGURE.finditer(blank)]
    return sorted(wrong, key=lambda complaint: int(re.search(r"\d+", complaint)[0]))


def block_problems(text, figure=FIGURE):
    """What is wrong with a document that is written by hand but for its blocks, which may not hold `figure` outside of them."""
    blank = BLOCK.sub(_blank, text)
    return [_complaint(text, found.start(), f"{found[0]!r} has no counterpart.") for found in MARKER.finditer(blank)] + [
        _complaint(text, found.start(), f"{found[0]!r} is a figure outside of a generated block.")
        for found in figure.finditer(blank)]


def _blank(found):
    """As many characters without a meaning, so that positions stay."""
    return re.sub(r"[^\n]", "#", found[0])


def _complaint(text, position, complaint):
    line = text.count("\n", 0, position) + 1
    return f"line {line}: {complaint}"
