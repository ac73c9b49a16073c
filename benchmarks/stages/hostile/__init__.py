"""Hostile inputs: files, pictures, masks, texts and prompts that nobody should send, made from a seed.

Each must be taken or be refused in a sentence of the pack's own: with no other exception, without the end of the process, and
within two seconds of computing.
"""

import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from random import Random

SHARES = {"adapters": 20, "networks": 8, "images": 12, "masks": 20, "texts": 25, "prompts": 15}  # of a hundred inputs
SLOWEST = 2.0    # seconds of one input
SILENCE = 120.0  # seconds without any result, after which a process counts as hanging
OURS = ("instantid_swift", "InstantID")  # modules of our exceptions; the second is what the editor shows


def add_arguments(parser):
    parser.add_argument("--inputs", type=int, help="how many; default: 10000, with --quick 300")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES), help="only these")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "FIRST", "COUNT"), help="for the command's own use")


def makers(folder):
    """{kind: a function of Random that makes one input and hands it to the pack}. folder: for files."""
    from . import faults, values
    return {"adapters": lambda random: faults.adapter(random, folder), "images": values.image, "masks": values.mask,
            "networks": lambda random: faults.network(random, folder), "texts": values.text, "prompts": values.prompt}


def outcome(make, kind, seed, number):
    """What became of one input: ("taken" | "refused" | "failed" | "slow", the sentence or the traceback, seconds)."""
    random = Random(f"{seed} {kind} {number}")
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        state, text = "taken", make(random) or ""
    except Exception as error:
        ours = type(error).__module__.startswith(OURS)
        state, text = ("refused", str(error)) if ours else ("failed", traceback.format_exc())
    # of the clock and the processor's time the smaller: other programs make the first longer, threads the second
    seconds = min(time.perf_counter() - wall, time.process_time() - cpu)
    if seconds > SLOWEST and state != "failed":
        state, text = "slow", f"{seconds:.1f} s: {text}"
    return state, text, seconds


def run(arguments):
    if arguments.worker:
        return work(arguments)
    total = arguments.inputs or (300 if arguments.quick else 10_000)
    counts, failures, slowest = {}, [], {}
    for kind in arguments.kinds:
        counts[kind], slowest[kind] = collections.Counter(), 0.0
        start, wanted = time.perf_counter(), total * SHARES[kind] // 100
        for number, state, text, seconds in results(arguments, kind, wanted):
            counts[kind][state] += 1
            slowest[kind] = max(slowest[kind], seconds)
            if state in ("failed", "slow", "process ended"):
                failures.append({"kind": kind, "number": number, "state": state, "text": text})
                print(f"{kind} {number} {state}: {text}", flush=True)
        taken, refused = counts[kind]["taken"], counts[kind]["refused"]
        print(f"{kind}: {sum(counts[kind].values())} inputs, {taken} taken, {refused} refused, the slowest "
              f"{slowest[kind]:.2f} s, {time.perf_counter() - start:.0f} s in all", flush=True)
    print(f"Inputs: {sum(sum(count.values()) for count in counts.values())}. Failures: {len(failures)}.")
    return {"counts": {kind: dict(count) for kind, count in counts.items()}, "slowest": slowest, "failures": failures,
            "seed": arguments.seed}


def results(arguments, kind, wanted):
    """Yields (number, state, text, seconds) of the inputs 0 .. wanted - 1 of a kind. They run in a process of their own; where
    it ends or hangs, another one goes on after the input that did it."""
    first = 0
    while first < wanted:
        command = [sys.executable, "-m", "benchmarks", "hostile", "--comfyui", str(arguments.comfyui), "--seed",
                   str(arguments.seed), "--worker", kind, str(first), str(wanted - first)]
        with tempfile.TemporaryFile("w+") as errors, \
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            watch = Watch(process)
            for line in process.stdout:
                watch.heard()
                if line.startswith("{"):
                    result = json.loads(line)
                    first = result["number"] + 1
                    yield result["number"], result["state"], result["text"], result["seconds"]
            watch.stop()
            code = process.wait()
            if first < wanted:
                errors.seek(0)
                yield first, "process ended", f"exit code {code}\n{errors.read()[-3000:]}", 0.0
                first += 1


class Watch:
    """Ends a process of which nothing is heard for a while."""

    def __init__(self, process):
        self.process, self.timer = process, None
        self.heard()

    def heard(self):
        self.stop()
        self.timer = threading.Timer(SILENCE, self.process.kill)
        self.timer.daemon = True
        self.timer.start()

    def stop(self):
        if self.timer:
            self.timer.cancel()


def work(arguments):
    """The process of one kind: one line of JSON for each input."""
    import faulthandler
    faulthandler.enable()
    kind, first, count = arguments.worker[0], *map(int, arguments.worker[1:])
    with tempfile.TemporaryDirectory() as folder:
        make = makers(Path(folder))[kind]
        outcome(make, kind, arguments.seed, -1)  # what is loaded for the first is not counted
        for number in range(first, first + count):
            state, text, seconds = outcome(make, kind, arguments.seed, number)
            print(json.dumps({"number": number, "state": state, "text": text[-3000:] if state == "failed" else text[:300],
                              "seconds": seconds}), flush=True)
