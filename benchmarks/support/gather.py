"""All stages, each in a process of its own, as they change what a process is like; their figures in one file."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import CHECKOUT

from . import files


def run(arguments, stages, every_stage):
    """Exit code: 1 if a stage failed. stages: {name: Stage}; every_stage: options that all of them take."""
    gathered, machine, versions = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(arguments.stages, 1):
            print(f"\n[{number}/{len(arguments.stages)}] {name}: {stages[name].summary}", flush=True)
            output, start = Path(folder) / f"{name}.json", time.perf_counter()
            options = words(arguments, (*every_stage, *stages[name].options))
            done = subprocess.run([sys.executable, "-u", "-m", "benchmarks", name, *options, "--output", str(output)],
                                  cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
            seconds = round(time.perf_counter() - start, 1)
            if done.returncode:
                error = (done.stderr.strip().splitlines() or [f"It ended with exit code {done.returncode}."])[-1]
                gathered[name] = {"error": error, "seconds": seconds}
                print(f"[{number}/{len(arguments.stages)}] {name} failed after {seconds:.0f} s. {done.stderr}", flush=True)
                continue
            found = files.read(output)
            gathered |= found["stages"]
            machine, versions = found["machine"], {**versions, **found["versions"]}
            print(f"[{number}/{len(arguments.stages)}] {name}: {seconds:.0f} s", flush=True)
    if arguments.output:
        files.write(arguments.output, machine, versions, settings(arguments), gathered)
        print(f"\nWritten to {arguments.output}.")
    failed = [name for name, stage in gathered.items() if "error" in stage]
    if failed:
        print(f"\nFailed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def words(arguments, options):
    """Those of the options that are set, as they are written on the command line."""
    written = []
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is None or value is False:
            continue
        written += [option, *([] if value is True else map(str, value if isinstance(value, list) else [value]))]
    return written


def settings(arguments):
    """What was asked for, for the file. Of paths the name alone: where a machine has them is nobody's business."""
    return {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()
            if key not in ("command", "comfyui", "output")}
