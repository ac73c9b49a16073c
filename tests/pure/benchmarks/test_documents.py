"""Documents show the figures of benchmarks/results, and no others."""

import json
import re

import pytest

from benchmarks import CHECKOUT, documents

NAMES = documents.names()
ISSUES = sorted(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob(".github_issues/*.md"))
TIME = r"µs|ms|s|seconds?|minutes?|times|x|×"
BEFORE = r"(?<![\w.,#])\d(?:[\d.,]*\d)?\s?"
TIMING = re.compile(rf"{BEFORE}(?:{TIME})(?!\w|\s?\d)")
FIGURE = re.compile(rf"{BEFORE}(?:{TIME}|[kKMGT]i?B|bytes|%)(?!\w|\s?\d)")
STATED = "{#- from shapes +#}"  # marks a template's line whose figures were computed from shapes


def unmarked(template):
    """Figures that a template states itself, outside of quotations (>) and marked lines."""
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template)
    return [found[0] for line in text.splitlines() if not line.startswith(">") and STATED not in line
            for found in FIGURE.finditer(line)]


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_what_its_template_renders(name):
    assert documents.render(name) == (CHECKOUT / name).read_text(encoding="utf-8"), "run python -m benchmarks.documents"


def test_one_changed_figure_changes_its_line_only(tmp_path):
    content = json.loads(documents.RESULTS.read_text())
    content["stages"]["imports"]["figures"]["seconds"] = 0.5
    (tmp_path / "cpu.json").write_text(json.dumps(content))
    right = (CHECKOUT / "PERFORMANCE_REPORT.md").read_text(encoding="utf-8").splitlines()
    changed = documents.render("PERFORMANCE_REPORT.md", tmp_path / "cpu.json").splitlines()
    assert [line for line in changed if line not in right] == ["**Import.** The pack adds 500 ms to ComfyUI's start."]


@pytest.mark.parametrize("name", NAMES)
def test_a_template_states_no_measured_figure(name):
    assert unmarked((documents.TEMPLATES / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("figure", ["13.9 ms", "1.69 GB", "4 %", "3x", "1,200 bytes"])
def test_a_figure_that_a_template_states_is_found(figure):
    assert unmarked(f"It needs {figure}.\n") == [figure]
    assert unmarked(f"> It needs {figure}.\nIt has {figure}. {STATED}\nIt takes {{{{ time }}}} ms, 3 reads.\n") == []


def test_the_readme_states_no_time_outside_of_its_block():
    text = documents.BLOCK.sub("", (CHECKOUT / "README.md").read_text(encoding="utf-8"))
    assert TIMING.findall(re.sub(r"\]\([^)]*\)", "]", text)) == []      # %20 in an address is no figure


@pytest.mark.parametrize("name", sorted({*NAMES, *ISSUES}))
def test_files_and_tests_that_a_document_names_exist(name):
    for file, test in re.findall(r"`([\w./]+\.py)(?:::(\w+))?`", (CHECKOUT / name).read_text(encoding="utf-8")):
        source = CHECKOUT / file
        assert source.is_file(), file
        assert f"def {test}(" in source.read_text(encoding="utf-8") or not test, test


def test_reports_are_short():
    for name, most in (("PERFORMANCE_REPORT.md", 250), ("DEVICE_TRANSFER_PLAN.md", 130)):
        assert len((CHECKOUT / name).read_text(encoding="utf-8").splitlines()) <= most
