"""Measures the engine without any computing: python -m bulk.simulation plan|overhead|throughput [options]

plan: a table of many jobs: seconds to check it, seconds to make all jobs and their ids, memory.
overhead: many jobs on servers that take no time: seconds a job, memory as it goes on.
throughput: 1, 10 and 100 servers whose prompts take times measured in a real run (its ledger), against the ideal in which every
server computes all the time.
Results go to a JSON file with the machine and the versions.
"""
import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from bulk.jobs import checking
from bulk.jobs.plan import Plan
from bulk.jobs.settings import Settings
from bulk.jobs.workflow import Workflow
from bulk.results.ledger import NAME, Ledger, lines
from bulk.running.runner import Run
from bulk.servers import cluster
from bulk.simulation.stand_in import StandIns, grey_png

WORKFLOW = {"1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 0]}},
            "3": {"class_type": "KSampler", "inputs": {"seed": 0, "positive": ["2", 0], "latent_image": ["1", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "p"}}}
INFO = {"LoadImage": {"input": {"required": {"image": [["none.png"], {"image_upload": True}]}}},
        "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {}], "clip": ["CLIP"]}}},
        "KSampler": {"input": {"required": {"seed": ["INT", {}]}}},
        "SaveImage": {"input": {"required": {"filename_prefix": ["STRING", {}]}}, "output_node": True}}
SAMPLE_SECONDS = 2.0        # between two readings of the memory


def machine() -> dict:
    """What the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "memory_gib": round(memory / 2 ** 30), "python": platform.python_version(),
            "system": platform.platform(terse=True), "dask": version("dask"), "distributed": version("distributed")}


def resident_mib() -> float:
    """Memory of this process, MiB."""
    import psutil
    return psutil.Process().memory_info().rss / 2 ** 20


class Memory(threading.Thread):
    """Readings of the memory while something runs: [(jobs ended, MiB)]."""

    def __init__(self, ledger: Ledger):
        super().__init__(daemon=True)
        self.ledger, self.readings, self.over = ledger, [], threading.Event()

    def run(self) -> None:
        while not self.over.wait(SAMPLE_SECONDS):
            self.readings.append((len(self.ledger.standing.done), round(resident_mib(), 1)))


def make_plan(folder: Path, people: int, jobs: int, urls: list[str]) -> Plan:
    """A plan of `jobs` jobs, about evenly among `people` photos."""
    photos = folder / "photos"
    photos.mkdir()
    for number in range(people):
        (photos / f"{number}.png").write_bytes(grey_png() + number.to_bytes(4, "big"))
    product = {"photo": {"folder": str(photos)}, "seed": {"from": 1, "to": jobs // people}}
    settings = Settings(folder / "workflow.json", folder / "output", {"photo": "1.image"}, {"seed": "3.seed"}, product=product,
                        person=("photo",), servers=tuple(urls), dashboard="127.0.0.1:0", folder=folder)
    return Plan(settings, Workflow(WORKFLOW))


async def run(plan: Plan, ledger: Ledger, minutes: float | None) -> float:
    """Runs a plan with workers that are threads of this process, not longer than so many minutes; returns the seconds, without
    the cluster's start."""
    async with cluster.connect(plan.settings, processes=False) as client:
        start = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(Run(plan, client, ledger)(), minutes and minutes * 60)
        return time.monotonic() - start


def measure(servers: int, jobs: int, people: int, samples: list[float], minutes: float | None = None) -> dict:
    """One run on stand-ins whose prompts take times drawn from `samples`; ends the program if a job was not computed once."""
    with tempfile.TemporaryDirectory(prefix="bulk-simulation-") as scratch, StandIns(servers, samples, INFO) as stand_ins:
        plan = make_plan(Path(scratch), people, jobs, stand_ins.addresses)
        with Ledger(plan.settings.output, plan.index()) as ledger:
            memory = Memory(ledger)
            memory.start()
            cpu = time.process_time()
            seconds = asyncio.run(run(plan, ledger, minutes))
            cpu = time.process_time() - cpu
            memory.over.set()
            done = len(ledger.standing.done)
        steady = steady_rate(plan.settings.output / NAME)
        computed, computing = stand_ins.computed()
    if minutes is None and not plan.rows.count == done == computed:
        raise SystemExit(f"{plan.rows.count} jobs, {done} done, {computed} computed")
    return {"servers": servers, "jobs_planned": plan.rows.count, "jobs": done, "computed": computed, "people": people,
            "seconds": round(seconds, 2),
            "milliseconds_a_job": round(seconds / done * 1000, 2), "cpu_milliseconds_a_job": round(cpu / done * 1000, 2),
            "server_seconds_a_job": round(computing / done, 4), "ideal_jobs_a_second": round(servers * done / computing, 3)
            if computing else None, "jobs_a_second": round(done / seconds, 3), "steady_jobs_a_second": round(steady, 3),
            "share_of_ideal": round(computing / servers / seconds, 4),
            "steady_share_of_ideal": round(steady * computing / done / servers, 4),
            "jobs_and_mib": memory.readings[::max(1, len(memory.readings) // 20)] + memory.readings[-1:]}


def steady_rate(ledger: Path) -> float:
    """Jobs per second between the first and the last tenth of them: without the start of the workers, and without the end, when
    servers run out of jobs."""
    times = [line["time"] for line in lines(ledger) if line["event"] == "done"]
    first, last = len(times) // 10, len(times) - 1 - len(times) // 10
    return (last - first) / max(times[last] - times[first], 1e-3) if last > first else 0.0


def planning(jobs: int, people: int) -> dict:
    """A table of so many jobs: the check of --plan, then every job with its id, as a run reads them."""
    with tempfile.TemporaryDirectory(prefix="bulk-simulation-") as scratch:
        folder = Path(scratch)
        plan = make_plan(folder, people, people, [])
        table = folder / "jobs.csv"
        with open(table, "w", encoding="utf-8") as file:
            file.write("photo,seed\n")
            file.writelines(f"photos/{number % people}.png,{number}\n" for number in range(jobs))
        memory, start = resident_mib(), time.monotonic()
        plan = Plan(dataclasses.replace(plan.settings, product={}, table=table), plan.workflow)
        problems = checking.row_problems(plan, INFO)
        checked = time.monotonic()
        last = None
        for job in plan.jobs():
            last = job
        made = time.monotonic()
    if problems or last is None:
        raise SystemExit("\n".join(problems))
    return {"jobs": plan.rows.count, "seconds_to_check": round(checked - start, 2),
            "seconds_to_make_all": round(made - checked, 2), "mib_before": round(memory, 1),
            "mib_after": round(resident_mib(), 1)}


def throughput(options: argparse.Namespace) -> list[dict]:
    """Runs of about `seconds` each. The ideal is that every server computes all the time."""
    measured = [line["seconds"] for line in lines(options.ledger) if line["event"] == "done" and line.get("seconds")]
    if not measured:
        raise SystemExit(f"{options.ledger} has no job that was measured")
    mean = sum(measured) / len(measured)
    print(f"{len(measured)} measured jobs: {min(measured):.3f} to {max(measured):.3f} s, mean {mean:.3f} s", flush=True)
    results = []
    for servers in options.servers:
        jobs = max(1, round(options.seconds * servers / mean))
        people = min(options.people, jobs)
        results.append(measure(servers, jobs // people * people, people, measured))
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bulk.simulation", description=__doc__)
    parser.add_argument("what", choices=["plan", "overhead", "throughput"])
    parser.add_argument("--servers", type=int, nargs="+", help="default: 2, or 1 10 100")
    parser.add_argument("--jobs", type=int, default=100_000, help="of plan and overhead")
    parser.add_argument("--minutes", type=float, help="of overhead: stop after so long, and tell what was done")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60, help="of each run of throughput, at the ideal")
    parser.add_argument("--ledger", type=Path, help="of the real run whose times are drawn")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "throughput" and not options.ledger:
        parser.error("throughput needs --ledger")
    options.servers = options.servers or ([2] if options.what == "overhead" else [1, 10, 100])
    if options.what == "plan":
        results = [planning(options.jobs, options.people)]
    elif options.what == "overhead":
        results = [measure(count, options.jobs, options.people, [0.0], options.minutes) for count in options.servers]
    else:
        results = throughput(options)
    found = {"machine": machine(), "command": " ".join(["python -m bulk.simulation", *sys.argv[1:]]), "results": results}
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.what != "throughput":
        print(json.dumps(results[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
