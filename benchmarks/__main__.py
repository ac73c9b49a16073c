"""python -m benchmarks STAGE... [options]: measures; tables on the terminal, and JSON with --output FILE.

Several stages run each in a process of its own. README.md in this folder says more.

Without --comfyui it runs in the environment of `python dev/test.py`, which it makes first, on ComfyUI 0.30.0. With
--comfyui PATH it runs in the Python that was called, on that ComfyUI: the way to measure one's own GPU.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import CHECKOUT

sys.path[:0] = [str(CHECKOUT / "dev"), str(CHECKOUT / "tests")]

STAGES = {
    "imports": "what the pack adds to ComfyUI's start",
    "load": "opening a real-size adapter file",
    "faces": "finding and embedding faces, against insightface used as the original uses it",
    "sampling": "a step of sampling with and without an identity",
    "rerun": "runs of one workflow on a real server, beside the sampling",
    "claims": "clones, re-runs, keys of caches, sizes of the detector",
    "people": "people who do not exist: points, turns and likeness beside the truth",
    "transfers": "copies between host and device, and host reads",
    "photos": "what faults of photos cost in likeness",
}
NOT_WRITTEN = ("stages", "comfyui", "output")  # settings left out of the file: where a machine has its folders


def parser():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__,
                                     epilog="\n".join(f"{name:10} {what}" for name, what in STAGES.items()))
    add = parser.add_argument
    add("stages", nargs="+", choices=[*STAGES, "all"], metavar="STAGE")
    add("--output", type=Path, help="write the figures here, as JSON")
    add("--comfyui", type=Path, help="a ComfyUI folder, to be used with this Python")
    add("--iterations", type=int, help="rounds of which the median is taken; default: 7, of --quick 1")
    add("--quick", action="store_true", help="few rounds of small things: to see that all works, not to be quoted")
    add("--device", help="cpu, cuda or cuda:N; default: the GPU if there is one")
    add("--dtype", choices=("float16", "bfloat16", "float32"), help="of the models; default on a GPU: float16")
    add("--size", choices=("full", "miniature"), help="of the models; sampling's default on a GPU: full")
    add("--resolution", type=int, help="pixels of a side; default: 1024 at full size, less for the miniature")
    add("--batch-sizes", type=int, nargs="+", metavar="N", default=[1], help="latents sampled at once")
    add("--steps", type=int, default=4, help="of a sampling")
    add("--networks", type=Path, help="a folder with models/antelopev2, instead of the small face networks")
    add("--provider", default="CPU", help="hardware of the face networks, as the node names it")
    add("--baseline", type=Path, help="a pack with the original's node ids, measured beside ours; default: a stand-in")
    return parser


def main():
    arguments = parser().parse_args()
    if not arguments.comfyui:
        return run_in_environment(sys.argv[1:])
    stages = list(STAGES) if "all" in arguments.stages else arguments.stages
    return run_stage(arguments, *stages) if len(stages) == 1 else run_stages(arguments, stages)


def run_stage(arguments, name):
    """Measures one stage in this process."""
    if arguments.device:  # before torch looks; stages then find the one device that they shall use
        kind, _, number = arguments.device.partition(":")
        if kind != "cuda" or number:
            os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "cuda" else ""
    import runtime
    import torch
    # ComfyUI takes a GPU for granted unless it is told that there is none
    runtime.use_comfyui(arguments.comfyui, "--disable-auto-launch" if torch.cuda.is_available() else "--cpu")
    runtime.import_pack()
    from . import common
    arguments.iterations = arguments.iterations or (1 if arguments.quick else 7)
    start = time.perf_counter()
    figures = importlib.import_module(f"benchmarks.stages.{name}").run(arguments)
    stage = {"settings": settings(arguments), "seconds": round(time.perf_counter() - start, 1), "figures": figures}
    write(arguments.output, common.machine(), common.versions(), {name: stage})
    return 0


def run_stages(arguments, stages):
    """Measures several stages, each in a process of its own, as they change what a process is like. Returns 1 if one failed."""
    options = [word for word in sys.argv[1:] if word not in (*STAGES, "all")]
    machine, versions, done, failed = {}, {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in stages:
            print(f"\n{name}: {STAGES[name]}", flush=True)
            output = Path(folder, f"{name}.json")
            command = [sys.executable, "-m", "benchmarks", name, *options, "--output", output]  # the last --output counts
            if subprocess.run(command, cwd=CHECKOUT).returncode:
                failed.append(name)
                continue
            content = json.loads(output.read_text())
            machine, versions, done = content["machine"], content["versions"], {**done, **content["stages"]}
    write(arguments.output, machine, versions, done)
    if failed:
        print(f"\nFailed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def settings(arguments):
    """The settings for the file, paths by their names only."""
    return {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()
            if key not in NOT_WRITTEN}


def write(path, machine, versions, stages):
    if path:
        path.write_text(json.dumps({"machine": machine, "versions": versions, "stages": stages}, indent=2) + "\n")


def run_in_environment(words):
    """Runs the same command in the development environment."""
    import environment
    try:
        environment.ensure()
    except environment.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    command = [environment.PYTHON, "-m", "benchmarks", *words, "--comfyui", environment.comfyui()]
    return subprocess.run(command, cwd=CHECKOUT, env=environment.small_networks()).returncode


if __name__ == "__main__":
    sys.exit(main())
