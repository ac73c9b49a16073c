"""The command: python -m bulk JOBS.toml [--plan | --status] [--retry-failed]. README.md describes the file."""
import argparse
import asyncio
import sys
import time
from functools import partial
from pathlib import Path

from bulk import BulkError
from bulk.jobs import checking, settings, workflow
from bulk.jobs.plan import Plan
from bulk.results import sheet, summary
from bulk.results.ledger import Ledger, Standing, standing
from bulk.running.runner import Run
from bulk.servers import cluster
from bulk.servers.http import Server, ServerError

DONE, FAILED, JOBS_FAILED, INTERRUPTED = 0, 1, 2, 130


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The options of this program, and those that stand for settings."""
    parser = argparse.ArgumentParser(prog="python -m bulk", description="Runs many ComfyUI jobs on many servers. It may be "
                                     "interrupted at any time: the same command goes on where it was.")
    parser.add_argument("jobs", type=Path, metavar="JOBS.toml", help="the settings; options go over them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="check everything, show counts and an estimate, run nothing")
    what.add_argument("--status", action="store_true", help="show how far the run is; needs no server")
    parser.add_argument("--retry-failed", action="store_true", help="try jobs again that were refused or given up")
    over = parser.add_argument_group("settings")
    for name in ("workflow", "output", "table", "picture", "scheduler"):
        over.add_argument(f"--{name}", metavar="NAME" if name == "picture" else name.upper())
    over.add_argument("--server", action="append", dest="servers", metavar="URL", help="may be given several times")
    options = vars(parser.parse_args(arguments))
    own = argparse.Namespace(**{name: options.pop(name) for name in ("jobs", "plan", "status", "retry_failed")})
    return own, {name: value for name, value in options.items() if value is not None}


async def describe(wanted: settings.Settings, classes: list[str]) -> dict:
    """/object_info of the first server that answers; {} where none does, or only Dask's workers can ask."""
    for url in wanted.servers:
        try:
            async with Server(url, seconds=30) as server:
                return await server.object_info(classes)
        except ServerError as error:
            show(f"Attention: {error}.")
    return {}


def check(plan: Plan) -> bool:
    """Checks a plan as far as a server can be asked; returns whether one was. Raises BulkError with all that is wrong."""
    info = asyncio.run(describe(plan.settings, plan.workflow.classes))
    problems = [*(checking.server_problems(plan, info) if info else []), *checking.row_problems(plan, info)]
    if problems:
        raise BulkError("\n    ".join(["The jobs cannot run as they are:", *problems]))
    if plan.settings.servers and not info:
        raise BulkError("None of the servers answers: start ComfyUI, or look at the addresses.")
    return bool(info)


show = partial(print, flush=True)


def show_plan(plan: Plan, found: Standing, asked: bool) -> None:
    """Counts and an estimate."""
    columns = [f"{len(values)} {name}" for name, values in plan.axes.items()]
    show(summary.counts(found) + (f" ({' x '.join(columns)})" if columns else ""))
    show(summary.estimate(len(plan.settings.servers) or 1, found))
    show("Inputs and files are checked." if asked else
         "Files are checked. The nodes' inputs will be checked when a server answers.")


def show_details(plan: Plan, found: Standing) -> None:
    if found.servers:
        show(summary.table(found))
    if found.ended_badly:
        show(summary.bad_ends(found, plan))


async def run(plan: Plan, ledger: Ledger, retry_failed: bool) -> None:
    """Starts or finds the cluster, and runs what is left."""
    async with cluster.connect(plan.settings) as client:
        show(f"Dask's dashboard: {client.dashboard_link}")
        await Run(plan, client, ledger, retry_failed=retry_failed)()


def main(arguments: list[str] | None = None) -> int:
    own, given = parse(arguments)
    try:
        wanted = settings.read(own.jobs, given)
        plan = Plan(wanted, workflow.read(wanted.workflow))
        if own.status:
            found = standing(wanted.output, plan.jobs())
            show(summary.counts(found))
            show_details(plan, found)
            return DONE
        asked = check(plan)
        if own.plan:
            show_plan(plan, standing(wanted.output, plan.jobs()), asked)
            return DONE
        with Ledger(wanted.output, plan.jobs()) as ledger:
            show_plan(plan, ledger.standing, asked)
            start = time.monotonic()
            try:
                asyncio.run(run(plan, ledger, own.retry_failed))
            finally:
                found = ledger.standing
                show(f"\n{summary.counts(found)}, after {time.monotonic() - start:.0f} s")
                show_details(plan, found)
                show(f"Contact sheet: {sheet.write(wanted.output, found, plan)}")
        return JOBS_FAILED if found.left or found.ended_badly else DONE
    except BulkError as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted. Jobs that servers have already begun go on there; the same command finds them.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
