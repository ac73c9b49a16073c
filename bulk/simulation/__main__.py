"""Measures the engine without any computing: python -m bulk.simulation --servers 1 10 --jobs 1000 --seconds 0 --output FILE

Runs many jobs on stand-ins of ComfyUI servers, whose prompts take times drawn from --seconds. All of our side is one process.
"""
import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil
from bulk.jobs.plan import Plan
from bulk.jobs.settings import Settings
from bulk.jobs.workflow import Workflow
from bulk.results.ledger import Ledger
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


def measure(servers: int, jobs: int, people: int, samples: list[float]) -> dict:
    """One run on so many stand-ins; ends the program if a job was not computed exactly once."""
    async def run() -> float:
        async with cluster.connect(plan.settings, processes=False) as client:
            start = time.monotonic()
            await Run(plan, client, ledger)()
            return time.monotonic() - start

    with tempfile.TemporaryDirectory(prefix="bulk-simulation-") as scratch, StandIns(servers, samples, INFO) as stand_ins:
        plan = make_plan(Path(scratch), people, jobs, stand_ins.addresses)
        start = time.monotonic()
        rows = plan.index()
        planned = time.monotonic() - start
        with Ledger(plan.settings.output, rows) as ledger:
            cpu = time.process_time()
            seconds = asyncio.run(run())
            cpu = time.process_time() - cpu
            done = len(ledger.standing.done)
        computed, computing = stand_ins.computed()
    if not len(rows) == done == computed:
        raise SystemExit(f"{len(rows)} jobs, {done} done, {computed} computed")
    return {"servers": servers, "jobs": done, "seconds_to_plan": round(planned, 2), "seconds": round(seconds, 2),
            "cpu_milliseconds_a_job": round(cpu / done * 1000, 2), "jobs_a_second": round(done / seconds, 3),
            "share_of_ideal": round(computing / servers / seconds, 3),
            "mib": round(psutil.Process().memory_info().rss / 2 ** 20)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bulk.simulation", description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--jobs", type=int, default=100, help="for each server")
    parser.add_argument("--people", type=int, default=10, help="for each server")
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0], help="of a prompt, drawn at random from these")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    results = [measure(count, count * options.jobs, count * options.people, options.seconds) for count in options.servers]
    machine = {"cores": os.cpu_count(), "system": platform.platform(terse=True), "python": platform.python_version(),
               "distributed": version("distributed"), "aiohttp": version("aiohttp")}
    found = {"machine": machine, "command": " ".join(["python -m bulk.simulation", *sys.argv[1:]]), "results": results}
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
