"""Runs the tests: python dev/test.py [pytest's arguments]. Makes the environment first.

Four rings: tests/pure and tests/bulk once; tests/comfy and tests/server once per pinned ComfyUI version, whose tree they
find in the variable INSTANTID_COMFYUI (and the folder .dev in INSTANTID_DEV). Two run at a time; what each has to say is shown
when it is done. Arguments that name something under tests/ choose what is run; all others go to pytest. `--long` adds
the tests marked so: campaigns and soaks. `--other-processor` runs them as an older processor would. `--lint` runs the linter
instead.
"""
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import environment
import other_processor
import pins

TESTS = environment.CHECKOUT / "tests"
ONCE = ("pure", "bulk")
PER_VERSION = ("comfy", "server")
NOTHING_COLLECTED = 5
OTHER_PROCESSOR = "--other-processor"
EVERY_LENGTH = "-mlong or not long"     # over pyproject.toml's choice, which leaves the long ones out
AT_ONCE = 2     # rings: each has one thread for its arithmetic


@dataclass
class Outcome:
    """How one ring ended."""

    name: str
    code: int
    summary: str


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments that name something under tests/, and the others."""
    chosen, others = [], []
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        inside = not argument.startswith("-") and path.exists() and path.resolve().is_relative_to(TESTS)
        (chosen if inside else others).append(str(path.resolve()) + argument[len(str(path)):] if inside else argument)
    return chosen, others


def of_ring(chosen: list[str], ring: str) -> list[str]:
    """What a ring has to run: its part of the choice, or its folder."""
    folder = TESTS / ring
    inside = [c for c in chosen if Path(c.partition("::")[0]).is_relative_to(folder)]
    return inside or ([] if chosen and str(TESTS) not in chosen else [str(folder)])


def run_ring(name: str, paths: list[str], arguments: list[str], comfyui: Path | None) -> Outcome:
    """One pytest process; its output is printed when it has ended."""
    variables = {**environment.small_networks(), "INSTANTID_DEV": str(environment.ROOT)}
    if OTHER_PROCESSOR in arguments:
        arguments = [argument for argument in arguments if argument != OTHER_PROCESSOR]
        variables |= {**other_processor.VARIABLES, "INSTANTID_DEV": str(other_processor.ROOT)}
    variables.pop("INSTANTID_COMFYUI", None)
    if comfyui:
        variables["INSTANTID_COMFYUI"] = str(comfyui)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        done = subprocess.run([str(environment.PYTHON), "-m", "pytest", f"--junitxml={report}", *paths, *arguments],
                              cwd=environment.CHECKOUT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(f"\n==== {name}\n{done.stdout.decode(errors='replace')}", flush=True)
        return Outcome(name, done.returncode, f"{count(report, done.returncode)} in {time.monotonic() - start:.0f} s")


def count(report: Path, code: int) -> str:
    """`12 passed, 1 failed` from pytest's report."""
    try:
        suite = ElementTree.parse(report).getroot().find("testsuite")
        numbers = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    except (OSError, ElementTree.ParseError, AttributeError, TypeError):
        return f"pytest ended with exit code {code}"
    passed = numbers.pop("tests") - sum(numbers.values())
    words = {"failures": "failed", "errors": "broken", "skipped": "skipped"}
    return ", ".join([f"{passed} passed", *(f"{n} {words[key]}" for key, n in numbers.items() if n)])


def run_tests(arguments: list[str]) -> int:
    chosen, others = split([EVERY_LENGTH if argument == "--long" else argument for argument in arguments])
    if OTHER_PROCESSOR in others:
        subprocess.run([str(environment.PYTHON), other_processor.__file__], check=True)
    # the longest first, so that none is left to run alone at the end
    comfy, server = ([(f"{ring}, ComfyUI {version}", ring, environment.comfyui(version))
                      for version in reversed(pins.COMFYUI)] for ring in PER_VERSION)
    rings = [*comfy, *((ring, ring, None) for ring in ONCE), *server]
    rings = [(name, of_ring(chosen, ring), tree) for name, ring, tree in rings if (TESTS / ring).is_dir()]
    with ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1)) as threads:
        running = [threads.submit(run_ring, name, paths, others, tree) for name, paths, tree in rings if paths]
        outcomes = [ring.result() for ring in running]
    empty = all(outcome.code == NOTHING_COLLECTED for outcome in outcomes)
    good = (0,) if empty else (0, NOTHING_COLLECTED)

    print("\n==== summary")
    for outcome in outcomes:
        print(f"{'ok    ' if outcome.code in good else 'FAILED'}  {outcome.name}: {outcome.summary}")
    if empty:
        print("No test was run: nothing under tests/ fits these arguments.")
    return 0 if outcomes and all(outcome.code in good for outcome in outcomes) else 1


def main() -> int:
    arguments = sys.argv[1:]
    try:
        environment.ensure()
    except environment.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments == ["--lint"]:
        ruff = [str(environment.PYTHON), "-m", "ruff", "check", "."]
        return subprocess.run(ruff, cwd=environment.CHECKOUT).returncode
    try:
        return run_tests(arguments)
    except KeyboardInterrupt:           # pytest has said where it was
        return 130


if __name__ == "__main__":
    sys.exit(main())
