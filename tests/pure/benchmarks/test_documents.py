"""Documents hold the figures that the files in benchmarks/results have, and no others."""

import re
import shutil
import subprocess
import sys

import pytest

from benchmarks import CHECKOUT
from benchmarks.documents import charts, rendering
from benchmarks.support import files

DOCUMENTS = rendering.documents()
TEMPLATES = sorted(rendering.TEMPLATES.glob("*.md"))
FIGURES = {
    "machine": {"processor": "A", "cores": 2, "threads": 1, "gpu": None}, "versions": {"torch": "2.13.0"}, "settings": {},
    "stages": {"speed": {"settings": {}, "seconds": 1.0, "figures": {
        "ways": {"ours, exact": {"ms per step": 12.345, "reads": 0}, "blocks: all 70": {"ms per step": 24.69, "reads": 1200}},
        "bytes": 10649600}}}}
TEMPLATE = """# Report

A step takes {{speed/ways/ours, exact/ms per step:.1f}} ms, and K and V have
| some | {{speed/bytes * 1e-6:.1f}} MB |, on {{cpu#machine/cores:d}} cores;
all blocks {{speed/ways/blocks: all 70/ms per step / speed/ways/ours, exact/ms per step:.2f}} times that.

{{table speed/ways:.1f | ms per step}}

{{quoted}}
It was said to take 4 to 8 ms, and 200 MB.
{{end}}
An identity may keep 12 MB at most. {{specification}}
There are 70 blocks of 1024x1024 pixels, 16 x 2048 numbers, in fp16, on ComfyUI 0.30.0.
"""
DOCUMENT = """# Report

A step takes 12.3 ms, and K and V have
| some | 10.6 MB |, on 2 cores;
all blocks 2.00 times that.

|  | ms per step |
| --- | ---: |
| ours, exact | 12.3 |
| blocks: all 70 | 24.7 |

It was said to take 4 to 8 ms, and 200 MB.
An identity may keep 12 MB at most.
There are 70 blocks of 1024x1024 pixels, 16 x 2048 numbers, in fp16, on ComfyUI 0.30.0.
"""


@pytest.fixture
def results(tmp_path):
    """A folder with a file of figures, cpu.json."""
    files.write(tmp_path / "cpu.json", **FIGURES)
    return tmp_path


@pytest.fixture
def complaints(results):
    return lambda template: rendering.template_problems(template, results)


def digits(text):
    """Each digit of a text changed in turn: (its position, the changed text)."""
    for found in re.finditer(r"\d", text):
        yield found.start(), f"{text[:found.start()]}{2 if found[0] == '1' else 1}{text[found.end():]}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_agree_with_the_files(path):
    assert rendering.check(path) == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if rendering.template_of(path)], ids=lambda path: path.name)
def test_every_digit_of_a_generated_document_is_checked(path):
    right = rendering.generated(path)
    for position, wrong in digits(right):
        assert len(rendering.differences(right, wrong)) == 1, right[position - 20:position + 20]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if not rendering.template_of(path)], ids=lambda path: path.name)
def test_every_digit_of_a_block_is_checked(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    copy = tmp_path / path.name
    for found in rendering.BLOCK.finditer(text):
        for _, shown in list(digits(found["shown"]))[:12]:
            copy.write_text(text[:found.start("shown")] + shown + text[found.end("shown"):], encoding="utf-8")
            complaint, = (said for said in rendering.check(copy) if said.startswith("line"))
            assert "should be" in complaint


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_shows_no_marker_but_those_of_its_blocks(path):
    text = path.read_text(encoding="utf-8")
    assert "{{" not in text
    assert "<!--" not in (text if rendering.template_of(path) else rendering.BLOCK.sub("", text))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_an_unmarked_figure_in_a_template_is_found(path):
    template = path.read_text(encoding="utf-8")
    assert rendering.template_problems(template) == []
    assert len(rendering.template_problems(template + "\nIt takes 13.9 ms.\n")) == 1


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_has_a_document(path):
    assert path.name in rendering.WHOLE or any(f"<!-- generated: {path.name} -->" in document.read_text(encoding="utf-8")
                                               for document in DOCUMENTS)


def test_an_unmarked_figure_outside_of_a_block_is_found():
    assert rendering.block_problems("As above.\n<!-- generated: a.md -->\n3 ms\n<!-- end -->\n") == []
    complaint, = rendering.block_problems("One\nIt takes 13.9 ms.\n")
    assert complaint == "line 2: '13.9 ms' is a figure outside of a generated block."
    assert rendering.block_problems("It has 1.7 GB.\n", rendering.TIMING) == []
    assert len(rendering.block_problems("It takes 13.9 ms and is 3x as fast.\n", rendering.TIMING)) == 2
    assert "no counterpart" in rendering.block_problems("One\n<!-- generated: a.md -->\n3 reads\n")[0]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path):
    """Files, tests, and names of modules of the pack, in backquotes."""
    missing = []
    for named in re.findall(r"`([\w./]+?(?:\.py)?(?:::\w+)?)`", path.read_text(encoding="utf-8")):
        file, _, test = named.partition("::")
        if file.endswith(".py"):
            source = CHECKOUT / file
            found = source.is_file() and (not test or f"def {test}(" in source.read_text(encoding="utf-8"))
        else:
            *module, name = [part for part in named.split(".") if not part.startswith("__")] or [""]
            while module and module[-1][:1].isupper() and not (CHECKOUT / f"{module[-1]}.py").is_file():
                name = module.pop()
            source = CHECKOUT.joinpath(*module).with_suffix(".py")
            if not all(module) or not module or not (CHECKOUT / module[0]).is_dir() and not source.is_file():
                continue
            found = source.is_file() and re.search(rf"^(?:class |def )?{name}\b", source.read_text(encoding="utf-8"), re.M)
        if not found:
            missing.append(named)
    assert missing == []


def test_a_changed_digit_fails_the_command(tmp_path):
    """`report --check` with a copy of a document, right and wrong."""
    copy = tmp_path / "PERFORMANCE_REPORT.md"

    def command(text):
        copy.write_text(text, encoding="utf-8")
        return subprocess.run([sys.executable, "-m", "benchmarks", "report", "--check", str(copy)], cwd=CHECKOUT,
                              capture_output=True, text=True)

    text = (CHECKOUT / "PERFORMANCE_REPORT.md").read_text(encoding="utf-8")
    assert command(text).returncode == 0
    *_, (_, wrong) = digits(text)
    done = command(wrong)
    assert done.returncode == 1 and "should be" in done.stderr


def test_a_template_is_filled_in(complaints, results):
    assert complaints(TEMPLATE) == []
    assert rendering.render(TEMPLATE, results) == DOCUMENT


@pytest.mark.parametrize("right, wrong", [("12.3 ms", "12.4 ms"), ("| 24.7 |", "| 24.8 |"), ("10.6 ", "10.7 "),
                                          ("4 to 8", "4 to 9"),
                                          ("| ours, exact |", "| ours, fused |"), ("0.30.0.\n", "0.30.0.\n\nMore.\n"),
                                          ("0.30.0.\n", "0.30.0.")])
def test_a_changed_document_is_found(right, wrong):
    changed = DOCUMENT.replace(right, wrong)
    assert changed != DOCUMENT and len(rendering.differences(DOCUMENT, changed)) == 1


def test_a_changed_file_is_found(results):
    figures = (results / "cpu.json").read_text().replace("12.345", "12.445")
    (results / "cpu.json").write_text(figures)
    changed = rendering.render(TEMPLATE, results).splitlines()
    assert [number for number, pair in enumerate(zip(DOCUMENT.splitlines(), changed, strict=True), 1) if pair[0] != pair[1]] \
        == [3, 5, 9]


@pytest.mark.parametrize("figure", ["13.9 ms", "13.9ms", "3 s", "1.69 GB", "64 KB", "10.6 MiB", "4 %", "71%", "3 times", "3x",
                                    "2.5 × faster", "1,200 bytes", "20 seconds"])
def test_an_unmarked_figure_is_found(complaints, figure):
    assert len(complaints(f"{TEMPLATE}\nIt needs {figure}.\n")) == 1
    assert len(rendering.block_problems(f"It needs {figure}.\n")) == 1


@pytest.mark.parametrize("field, reason", [
    ("{{speed/ways/theirs/ms per step:.1f}}", "no 'theirs'"),
    ("{{gpu#speed/bytes:d}}", "no file of figures"),
    ("{{speed/bytes}}", "lacks a format"),
    ("{{speed/ways:.1f}}", "cannot be computed"),
    ("{{speed/bytes:d", "no counterpart"),
    ("{{speed/ways * 2:d}}", "cannot be computed"),
    ("\n{{quoted}}\n", "no counterpart"),
    ("\n{{table speed/bytes}}", "makes no table"),
    ("\n{{table speed/ways | minutes}}", "no column"),
])
def test_a_field_that_cannot_work_is_told_with_its_line(complaints, field, reason):
    complaint, = complaints(f"One\ntwo {field}\n")
    assert reason in complaint and re.match(r"line [23]: ", complaint)


def test_a_chart_of_other_figures_is_found(results):
    contents = {"cpu": files.read(results / "cpu.json")}
    contents["cpu"]["stages"]["faces"] = {"figures": {"opening": {"ours": {"seconds": 1.5}, "original": {"seconds": 3.0}}}}
    files.write(results / "cpu.json", **contents["cpu"])
    picture, = charts.write(contents, results)
    shutil.copy(picture, results / "copy.png")
    assert not charts.outdated(results / "copy.png", results)
    text = (results / "cpu.json").read_text().replace("1.5", "1.4")
    (results / "cpu.json").write_text(text)
    assert charts.outdated(results / "copy.png", results)
