"""python -m benchmarks STAGE [options]: measures; tables on the terminal, and JSON with --output FILE.

`all` runs the stages that documents quote, each in a process of its own, into one file; `report` makes tables and charts of
files, and documents from templates. README.md in this folder says more.

Without --comfyui it runs in the environment of `python dev/test.py`, which it makes first, on ComfyUI 0.30.0. With
--comfyui PATH it runs in the Python that was called, on that ComfyUI: the way to measure one's own GPU.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from . import CHECKOUT
from .documents import report
from .stages import STAGES
from .support import files, gather

sys.path[:0] = [str(CHECKOUT / "dev"), str(CHECKOUT / "tests")]

EVERY_STAGE = ("--iterations", "--quick", "--comfyui")
OPTIONS = {
    "--iterations": {"type": int, "help": "rounds of which the median is taken; default: 7, of --quick 1"},
    "--quick": {"action": "store_true", "help": "few rounds of small things: to see that all works, not to be quoted"},
    "--comfyui": {"type": Path, "help": "a ComfyUI folder, to be used with this Python"},
    "--batch-sizes": {"type": int, "nargs": "+", "metavar": "N",
                      "help": "latents sampled at once; default: 1, of replay 1, 2, 4"},
    "--resolution": {"type": int, "help": "pixels of a side; default: 1024 at full size, less for the miniature"},
    "--dtype": {"choices": ("float16", "bfloat16", "float32"), "help": "of the models; default on a GPU: float16"},
    "--device": {"help": "cpu, cuda or cuda:N; default: the GPU if there is one"},
    "--baseline": {"type": Path, "help": "a pack with the original's node ids, measured beside ours; default: a stand-in"},
}


def module(stage):
    return importlib.import_module(f"benchmarks.stages.{stage.module}")


def parser_for(words):
    """The command line; options of a stage's own only where it is named, as other stages' libraries may not be there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, summary, options):
        command = commands.add_parser(name, help=summary, description=summary)
        for option in options:
            command.add_argument(option, **OPTIONS[option])
        command.add_argument("--output", type=Path, help="write the figures here, as JSON")
        return command

    for name, stage in STAGES.items():
        command = add(name, stage.summary, (*EVERY_STAGE, *stage.options))
        if name in words[:1]:
            module(stage).add_arguments(command)
    everything = add("all", "the stages that documents quote, one after the other", OPTIONS)
    everything.add_argument("--stages", nargs="+", choices=STAGES, metavar="STAGE", help="only these",
                            default=[name for name, stage in STAGES.items() if stage.in_all])
    report.add_arguments(commands.add_parser("report", help=report.SUMMARY, description=report.__doc__,
                                             formatter_class=argparse.RawDescriptionHelpFormatter))
    return parser


def main():
    words = sys.argv[1:]
    measures = words[:1] and words[0] in (*STAGES, "all")
    if measures and not any(word.startswith("--comfyui") for word in words):
        return run_in_environment(words)
    arguments = parser_for(words).parse_args(words)
    if arguments.command == "report":
        return report.run(arguments)
    if arguments.command == "all":
        return gather.run(arguments, STAGES, EVERY_STAGE)
    return run_stage(arguments)


def run_stage(arguments):
    """One stage, in this process."""
    if getattr(arguments, "device", None):  # before torch looks; stages then find the one device that they shall use
        kind, _, number = arguments.device.partition(":")
        if kind != "cuda" or number:
            os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "cuda" else ""
    import runtime
    import torch
    # ComfyUI takes a GPU for granted unless it is told that there is none
    runtime.use_comfyui(arguments.comfyui, "--disable-auto-launch" if torch.cuda.is_available() else "--cpu")
    runtime.import_pack()
    from .support import common
    arguments.iterations = arguments.iterations or (1 if arguments.quick else 7)
    start = time.perf_counter()
    figures = module(STAGES[arguments.command]).run(arguments)
    seconds = round(time.perf_counter() - start, 1)
    if arguments.output:
        settings = gather.settings(arguments)
        stage = {"settings": settings, "seconds": seconds, "figures": figures}
        files.write(arguments.output, common.machine(), common.versions(), settings, {arguments.command: stage})
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
    return subprocess.run([str(word) for word in command], cwd=CHECKOUT, env=environment.small_networks()).returncode


if __name__ == "__main__":
    sys.exit(main())
