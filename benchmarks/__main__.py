"""python -m benchmarks STAGE [options]: one stage's table on the terminal, and as JSON with --output FILE.

Without --comfyui it runs in the environment of `python dev/test.py`, which it makes first, on ComfyUI 0.30.0. With
--comfyui PATH it runs in the Python that was called, on that ComfyUI: the way to measure one's own GPU.
"""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
STAGES = {
    "faces": "finding and embedding faces, against insightface used as the original uses it",
    "imports": "what the pack adds to ComfyUI's start",
    "load": "opening a real-size adapter file",
    "replay": "sampling replayed as CUDA graphs, beside the ordinary calls and the baseline",
    "rerun": "runs of one workflow on a real server, beside the sampling",
    "sampling": "a step of sampling with and without an identity",
}
sys.path[:0] = [str(CHECKOUT / "dev"), str(CHECKOUT / "tests")]


def main():
    words = sys.argv[1:]
    if not any(word.startswith("--comfyui") for word in words):
        return run_in_environment(words)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True)
    for name, summary in STAGES.items():
        stage = stages.add_parser(name, help=summary, description=summary)
        stage.add_argument("--comfyui", type=Path, help="a ComfyUI folder, to be used with this Python")
        stage.add_argument("--rounds", type=int, default=7, help="rounds of which the median is taken")
        stage.add_argument("--output", type=Path, help="write the figures here, as JSON")
        if name in words:  # the other stages' libraries may not be there
            importlib.import_module(f"benchmarks.{name}").add_arguments(stage)
    arguments = parser.parse_args()

    import runtime
    # ComfyUI takes a GPU for granted unless it is told that there is none
    runtime.use_comfyui(arguments.comfyui, "--disable-auto-launch" if _has_gpu() else "--cpu")
    runtime.import_pack()
    from . import common
    figures = importlib.import_module(f"benchmarks.{arguments.stage}").run(arguments)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()
                if key not in ("comfyui", "output")}
    result = {"stage": arguments.stage, "machine": common.machine(), "versions": common.versions(), "settings": settings,
              "figures": figures}
    if arguments.output:
        common.write(arguments.output, result)
    return 0


def run_in_environment(words):
    """The same command in the development environment."""
    import environment
    try:
        environment.ensure()
    except environment.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    command = [environment.PYTHON, "-m", "benchmarks", *words, "--comfyui", environment.comfyui()]
    return subprocess.run([str(word) for word in command], cwd=CHECKOUT, env=os.environ).returncode


def _has_gpu():
    import torch
    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
