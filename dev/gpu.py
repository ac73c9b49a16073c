"""Checks and times the pack on a GPU: python dev/gpu.py [--minutes 9] [--baseline PATH] [--comfyui PATH] --output FILE

It needs a Python from 3.10 on with torch and numpy, and no network. Each stage runs in a process of its own and is written to
FILE when it has ended, the most important first. Called again with the same FILE it goes on with what is missing. At the end
stands a table: what must hold, and what was found. The exit code is 0 where all was run and holds, 1 where something does
not hold, 2 where something is left to run.

--device cpu runs every stage on a miniature, with a few of its cases: it shows that the command works.
--bundle FOLDER makes a folder of less than 45 MB for a machine without a network: python FOLDER/dev/gpu.py --output FILE
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from gpu_stages import ASYNC, NATIVE, STAGES, runs

CHECKOUT = Path(__file__).resolve().parent.parent
DONE = "done"
MARKS = {True: "holds", False: "DOES NOT HOLD", None: "not told"}
MOST_LOG = 4000  # characters of a stage's output that are kept


def main():
    arguments = parse()
    if arguments.stage:
        return run_stage_here(arguments)
    if arguments.bundle:
        from gpu_stages import bundle
        return bundle.make(arguments.bundle)
    comfyui = arguments.comfyui or find_comfyui()
    if comfyui is None:
        sys.exit("There is no ComfyUI: name its folder with --comfyui PATH.")
    if not (comfyui / "comfy").is_dir():
        sys.exit(f"{comfyui} is no folder of ComfyUI: there is no folder comfy in it.")
    device = arguments.device or ("cuda" if machine()["gpu"] else "cpu")
    content = begin(arguments, device, comfyui)
    work = Path(f"{arguments.output}.work")
    work.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    for name, stage, memory in runs(device):
        if arguments.only and stage not in arguments.only or content["stages"].get(name, {}).get("status") == DONE:
            continue
        left = deadline - time.monotonic()
        if left < 1:
            break
        settings = {"device": device, "comfyui": str(comfyui.resolve()), "work": str(work.resolve()), "memory": memory,
                    "baseline": str(arguments.baseline.resolve()) if arguments.baseline else None}
        print(f"{name}: ", end="", flush=True)
        content["stages"][name] = result = run_stage(stage, settings, work, left)
        print(f"{result['status']}, {result['seconds']:.0f} s", flush=True)
        write(arguments.output, with_verdict(content, device, arguments.only))
    content = with_verdict(content, device, arguments.only)
    write(arguments.output, content)
    show(content)
    if any(row["holds"] is False for row in content["verdict"]):
        return 1
    return 0 if content["complete"] else 2


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="stages end within this time; default: 9")
    parser.add_argument("--baseline", type=Path, help="a pack with the original's node ids, timed beside ours")
    parser.add_argument("--comfyui", type=Path, help="a ComfyUI folder; default: the newest in the bundle or in .dev")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the GPU if there is one")
    parser.add_argument("--output", type=Path, help="the JSON file to write, or to go on with")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"only these: {', '.join(STAGES)}")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="only make the folder for another machine")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.output or arguments.bundle):
        parser.error("--output FILE is missing.")
    return arguments


def find_comfyui():
    """The newest ComfyUI in the bundle or in the development environment; None where there is none."""
    folders = [*CHECKOUT.glob("ComfyUI-*"), *Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev")).glob("ComfyUI-*")]
    return max(folders, default=None, key=lambda path: tuple(int(part) for part in path.name.partition("-")[2].split(".")))


def begin(arguments, device, comfyui):
    """The file's content, or a new one. Ends the process where the file is another machine's or another set of options."""
    settings = {"device": device, "comfyui": comfyui.name, "baseline": bool(arguments.baseline)}
    new = {"machine": machine(), "settings": settings, "stages": {}}
    if not arguments.output.exists():
        return new
    content = json.loads(arguments.output.read_text())
    for what in ("machine", "settings"):
        if content[what] != new[what]:
            sys.exit(f"{arguments.output} was begun with {content[what]}, this is {new[what]}: choose another --output.")
    return content


def machine():
    import torch
    cuda = torch.cuda.is_available()
    return {"python": platform.python_version(), "torch": torch.__version__, "system": platform.system(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
            "capability": list(torch.cuda.get_device_capability()) if cuda else None}


def run_stage(stage, settings, work, seconds):
    """What became of a stage: {"status", "seconds", "rows", "figures", "log"}. Its process is ended when the time is over."""
    found = work / "stage.json"
    found.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage, "--settings", json.dumps(settings), "--output",
               str(found)]
    start, status = time.monotonic(), "ended early"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=variables(settings),
                                   start_new_session=True)
        try:
            code = process.wait(seconds)
            status = f"ended with exit code {code}"
        except subprocess.TimeoutExpired:
            status = f"not finished within {seconds:.0f} seconds"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
                process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")[-MOST_LOG:]
    report = json.loads(found.read_text()) if found.exists() else {"rows": [], "figures": {}, "finished": False}
    if report["finished"]:
        status = DONE  # whatever the process said at its end: its own last word stands in the log
    return {"status": status, "seconds": round(time.monotonic() - start, 1), "rows": report["rows"],
            "figures": report["figures"], "log": "" if status == DONE else said}


def variables(settings):
    """The environment of a stage: PyTorch's allocator as ComfyUI's start sets it."""
    found = dict(os.environ)
    if settings["memory"]:
        found["PYTORCH_CUDA_ALLOC_CONF"] = f"backend:{NATIVE if settings['memory'] == NATIVE else ASYNC}"
    if settings["device"] == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
        found.setdefault("OMP_NUM_THREADS", "1")  # what the miniature computes is too small to be shared out
    return found


def run_stage_here(arguments):
    """The stage itself, in its own process."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    from gpu_stages.worlds import Report, Settings
    settings, report = Settings(**arguments.settings), Report(arguments.output)
    not_tried = settings.prepare()
    if not_tried:
        report.row(STAGES[arguments.stage].title, f"not tried: {not_tried}", None)
    else:
        module, _, name = STAGES[arguments.stage].function.partition(":")
        getattr(importlib.import_module(f"gpu_stages.{module}"), name)(report, settings)
    report.finish()
    return 0


def end_with(parent):
    """Ends this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def with_verdict(content, device, only):
    """The content with its table of what must hold, a row at least for each stage."""
    verdict, complete = [], True
    for name, stage, _ in runs(device):
        if only and stage not in only:
            continue
        result = content["stages"].get(name, {"status": "not run: no time was left", "rows": []})
        verdict += [{"stage": name, **row} for row in result["rows"]]
        if result["status"] != DONE:
            complete = False
            crashed = result["status"].startswith("ended")
            verdict.append({"stage": name, "must": STAGES[stage].title, "found": result["status"],
                            "holds": False if crashed else None})
    return {**content, "verdict": verdict, "complete": complete}


def write(path, content):
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def show(content):
    rows = content["verdict"]
    print()
    for row in rows:
        print(f"{MARKS[row['holds']]:13}  {row['stage']}: {row['must']}: {row['found']}")
    counts = {mark: sum(row["holds"] is holds for row in rows) for holds, mark in MARKS.items()}
    if content["settings"]["device"] == "cpu":
        print("\nThis ran on a CPU, on a miniature: NOTHING WAS SHOWN ON A GPU.")
    print(f"\n{', '.join(f'{number} {mark}' for mark, number in counts.items())}. "
          + ("All stages were run." if content["complete"] else "Call the command again to run what is missing."))


if __name__ == "__main__":
    sys.exit(main())
