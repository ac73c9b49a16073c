"""Documents hold the figures that the files in benchmarks/results have, and no others."""

import re
import shutil

import pytest

from benchmarks.documents import charts
from benchmarks.documents import rendering as documents
from benchmarks.support import files

DOCUMENTS = documents.documents()
FIGURES = {
    "machine": {"processor": "A", "cores": 2, "threads": 1, "gpu": None}, "versions": {"torch": "2.13.0"}, "settings": {},
    "stages": {"speed": {"settings": {}, "seconds": 1.0, "figures": {
        "ways": {"ours, exact": {"ms per step": 12.345, "reads": 0}, "blocks: all 70": {"ms per step": 24.69, "reads": 1200}},
        "bytes": 10649600}}}}
DOCUMENT = """# Report

A step takes <!--=cpu#speed/ways/ours, exact/ms per step:.1f-->12.3<!--=--> ms, and K and V have
| some | <!--=cpu#speed/bytes * 1e-6:.1f-->10.6<!--=--> MB |, on <!--=cpu#machine/cores:d-->2<!--=--> cores;
all blocks <!--=cpu#speed/ways/blocks: all 70/ms per step / speed/ways/ours, exact/ms per step:.2f-->2.00<!--=--> times that.

<!-- figures: cpu#speed/ways:.1f | ms per step -->
|  | ms per step |
| --- | ---: |
| ours, exact | 12.3 |
| blocks: all 70 | 24.7 |
<!-- end -->

<!-- quoted -->
It was said to take 4 to 8 ms, and 200 MB.
<!-- end -->
An identity may keep 12 MB at most. <!-- specification -->
There are 70 blocks of 1024x1024 pixels, 16 x 2048 numbers, in fp16, on ComfyUI 0.30.0.
"""


@pytest.fixture
def results(tmp_path):
    """A folder with a file of figures, cpu.json."""
    files.write(tmp_path / "cpu.json", **FIGURES)
    return tmp_path


@pytest.fixture
def complaints(results):
    return lambda text, measured=True: documents.problems(text, measured, results)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_agree_with_the_files(path):
    assert documents.check(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_marked_figure_of_a_document_is_checked(path):
    """One digit of each changed in turn."""
    text = path.read_text()
    for pattern in (documents.INLINE, documents.BLOCK):
        for found in pattern.finditer(text):
            digit = found.start("shown") + re.search(r"\d|$", found["shown"]).start()
            wrong = f"{text[:digit]}{2 if text[digit] == '1' else 1}{text[digit + 1:]}"
            assert len(documents.problems(wrong, DOCUMENTS[path])) == 1, found["what"]


@pytest.mark.parametrize("path", [path for path, measured in DOCUMENTS.items() if measured], ids=lambda path: path.name)
def test_an_unmarked_figure_in_a_document_is_found(path):
    assert len(documents.problems(path.read_text() + "\nIt takes 13.9 ms.\n", True)) == 1


def test_a_document_that_agrees(complaints, results):
    assert complaints(DOCUMENT) == []
    assert documents.filled(DOCUMENT, results) == DOCUMENT


def test_a_document_is_filled_in_by_its_path(tmp_path):
    name = min(path.stem for path in files.RESULTS.glob("*.json"))
    cores = files.read(files.RESULTS / f"{name}.json")["machine"]["cores"]
    document = tmp_path / "document.md"
    document.write_text(f"On <!--={name}#machine/cores:d-->?<!--=--> cores, <!--={name}#nothing:d-->?<!--=-->.\n")
    assert len(documents.update(document)) == 2  # nothing is written while one figure cannot be had
    document.write_text(f"On <!--={name}#machine/cores:d-->?<!--=--> cores.\n")
    assert documents.update(document) == []
    assert f"-->{cores}<!--=--> cores" in document.read_text()


@pytest.mark.parametrize("right, wrong", [("12.3<", "12.4<"), ("| 24.7 |", "| 24.8 |"), (">10.6<", ">10.7<"),
                                          ("| ours, exact |", "| ours, fused |")])
def test_a_changed_figure_is_found_and_filled_in_again(complaints, results, right, wrong):
    changed = DOCUMENT.replace(right, wrong)
    assert changed != DOCUMENT and len(complaints(changed)) == 1
    assert documents.filled(changed, results) == DOCUMENT


def test_a_changed_file_is_found(complaints, results):
    figures = (results / "cpu.json").read_text().replace("12.345", "12.445")
    (results / "cpu.json").write_text(figures)
    assert [complaint.partition(":")[0] for complaint in complaints(DOCUMENT)] == ["line 3", "line 5", "line 7"]


@pytest.mark.parametrize("figure", ["13.9 ms", "13.9ms", "3 s", "1.69 GB", "64 KB", "10.6 MiB", "4 %", "71%", "3 times", "3x",
                                    "2.5 × faster", "1,200 bytes", "20 seconds"])
def test_an_unmarked_figure_is_found_where_all_must_be_marked(complaints, figure):
    text = f"{DOCUMENT}\nIt needs {figure}.\n"
    assert len(complaints(text)) == 1 and complaints(text, measured=False) == []


@pytest.mark.parametrize("marker, reason", [
    ("<!--=cpu#speed/ways/theirs/ms per step:.1f-->1<!--=-->", "no 'theirs'"),
    ("<!--=gpu#speed/bytes:d-->1<!--=-->", "no file of figures"),
    ("<!--=cpu#speed/bytes-->1<!--=-->", "lacks a format"),
    ("<!--=cpu#speed/ways:.1f-->1<!--=-->", "cannot be computed"),
    ("<!--=cpu#speed/bytes:d-->10649600", "no counterpart"),
    ("<!--=cpu#speed/ways * 2:d-->10649600<!--=-->", "cannot be computed"),
    ("\n<!-- quoted -->\n", "no counterpart"),
    ("\n<!-- figures: cpu#speed/bytes -->\n<!-- end -->", "makes no table"),
    ("\n<!-- figures: cpu#speed/ways | minutes -->\n<!-- end -->", "no column"),
    ("\n<!--=cpu#speed/bytes:d-->10649600<!--=--> bytes", "begins with a comment"),
])
def test_a_marker_that_cannot_work_is_told_with_its_line(complaints, marker, reason):
    complaint, = complaints(f"One\ntwo {marker}\n")
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
