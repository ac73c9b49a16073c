"""Documents with measured figures: python -m benchmarks.documents renders them from results/cpu.json.

Each template in templates/ gives the document of the same path. README.md is written by hand but for what stands between its
two marker lines.
"""

import json
import re
from pathlib import Path

import jinja2

from . import CHECKOUT

RESULTS = CHECKOUT / "benchmarks" / "results" / "cpu.json"
TEMPLATES = Path(__file__).resolve().parent / "templates"
MACROS = "macros.jinja"
BLOCK = re.compile(r"(?<=<!-- generated -->\n).*(?=<!-- end -->)", re.S)


def names():
    """Returns the paths of all documents, relative to the checkout."""
    return [str(path.relative_to(TEMPLATES)) for path in sorted(TEMPLATES.rglob("*.md"))]


def render(name, results=RESULTS):
    """Returns the text of a document with the figures of a file. Raises jinja2.UndefinedError where it lacks one."""
    content = json.loads(results.read_text(encoding="utf-8"))
    figures = {stage: measured["figures"] for stage, measured in content["stages"].items()}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.filters["f"] = shown
    text = environment.get_template(name).render(**figures, machine=content["machine"], versions=content["versions"])
    if name == "README.md":
        return BLOCK.sub(lambda _: text, (CHECKOUT / name).read_text(encoding="utf-8"))
    return text


def shown(figure, form=None):
    """Returns a figure in a Python format; without one with three digits of a fraction, and all of a whole number."""
    if figure is None or isinstance(figure, str):
        return figure or "none"
    if form is None:
        form = ",.0f" if isinstance(figure, int) or abs(figure) >= 1000 else ".3g"
    return format(figure, form)


if __name__ == "__main__":
    for document in names():
        (CHECKOUT / document).write_text(render(document), encoding="utf-8")
