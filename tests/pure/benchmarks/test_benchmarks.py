"""The benchmarks' files of figures: gathered from all stages, compared, shown as tables and charts."""

import copy
import json
import subprocess
import sys

import pytest
from PIL import Image

from benchmarks import CHECKOUT
from benchmarks.documents import charts, report, tables
from benchmarks.support import files

ONE = {
    "machine": {"processor": "A", "cores": 2, "threads": 1, "gpu": None}, "versions": {"torch": "2.13.0"}, "settings": {},
    "stages": {
        "sampling": {"settings": {}, "seconds": 1.0, "figures": {
            "batch 1": {"plain UNet": {"ms per step": 1048.4, "reads": 0}, "term": {"ms per step": 50.04}}, "bytes": 10649600}},
        "faces": {"error": "FileNotFoundError: no networks", "seconds": 0.1}}}


def command(*words):
    return subprocess.run([sys.executable, "-m", "benchmarks", *map(str, words)], cwd=CHECKOUT,
                          capture_output=True, text=True)


@pytest.fixture
def other():
    """The same machine a version later."""
    changed = copy.deepcopy(ONE)
    changed["stages"]["sampling"]["figures"]["batch 1"]["plain UNet"]["ms per step"] = 524.2
    return changed


def test_a_stage_that_fails_does_not_stop_the_others(tmp_path):
    """Both do: there is no ComfyUI in the folder."""
    done = command("all", "--stages", "imports", "load", "--comfyui", tmp_path, "--output", tmp_path / "figures.json")
    content = json.loads((tmp_path / "figures.json").read_text())
    assert done.returncode == 1 and "[2/2] load failed" in done.stdout and "Failed: imports, load." in done.stderr
    assert list(content["stages"]) == ["imports", "load"]
    assert all("There is no ComfyUI in" in stage["error"] for stage in content["stages"].values())


def test_options_of_another_stage_are_refused(tmp_path):
    done = command("imports", "--batch-sizes", "2", "--comfyui", tmp_path)
    assert done.returncode == 2 and "--batch-sizes" in done.stderr


def test_the_report_shows_every_stage():
    lines = report.markdown({"one": ONE}).splitlines()
    assert "Machine: A, 2 cores, 1 thread, no GPU." in lines and "- one: torch 2.13.0" in lines
    assert "| plain UNet | 1,048 | 0 |" in lines and "| term | 50 |  |" in lines and "| bytes | 10,649,600 |" in lines
    assert "one failed: FileNotFoundError: no networks" in lines


def test_files_stand_side_by_side_with_their_ratio(other):
    lines = report.markdown({"one": ONE, "other": other}).splitlines()
    assert "|  | ms per step, one | ms per step, other | reads, one | reads, other |" in lines
    assert "| plain UNet | 1,048 | 524 (0.50) | 0 | 0 |" in lines


def test_files_of_different_machines_are_refused(tmp_path, other):
    other["machine"]["gpu"] = "B"
    for name, content in (("one", ONE), ("other", other)):
        files.write(tmp_path / f"{name}.json", **content)
    done = command("report", tmp_path / "one.json", tmp_path / "other.json")
    assert done.returncode == 1 and not done.stdout
    assert "one: A, 2 cores, 1 thread, no GPU" in done.stderr and "other: A, 2 cores, 1 thread, B" in done.stderr


@pytest.mark.parametrize("figure, shown", [
    (0.016893, "0.0169"), (1.0, "1"), (1604.2, "1,604"), (60, "60"), (1691121360, "1,691,121,360"), (None, ""),
    (["a", "b"], "a, b"), (True, "True"), ("cpu", "cpu")])
def test_figures_as_text(figure, shown):
    assert tables.text(figure) == shown


def test_charts_are_as_wide_as_a_readme_and_their_colours_differ(tmp_path, other):
    """Each row's bars as long as their figures are large, the first file's in the first colour."""
    path, = charts.write({"one": ONE, "other": other}, tmp_path)
    with Image.open(path) as picture:
        assert picture.width == 830
        colours = dict((colour, count) for count, colour in picture.convert("RGB").getcolors(1 << 16))
    areas = [colours[tuple(bytes.fromhex(colour[1:]))] for colour in charts.COLOURS[:2]]
    drawn = [sum(row["ms per step"] for row in content["stages"]["sampling"]["figures"]["batch 1"].values())
             for content in (ONE, other)]
    assert areas[0] / areas[1] == pytest.approx(drawn[0] / drawn[1], rel=0.1)
