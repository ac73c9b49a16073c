"""The command: python -m bulk JOBS.toml [--plan | --status] [--retry-failed]. README.md describes the file."""
import argparse
import asyncio
import sys
import time
from pathlib import Path

from bulk import BulkError
from bulk.jobs import checking, settings, workflow
from bulk.jobs.plan import Plan
from bulk.results import sheet, summary
from bulk.results.ledger import Ledger, Standing, standing
from bulk.servers.http import Refused, Server, Unreachable

DONE, FAILED, JOBS_FAILED, INTERRUPTED = 0, 1, 2, 130


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The options of this program, and those that stand for settings."""
    parser = argparse.ArgumentParser(prog="python -m bulk", description="Runs many ComfyUI jobs on many servers. It may be "
                                     "interrupted at any time: the same command goes on where it was.")
    parser.add_argument("jobs", nargs="?", type=Path, metavar="JOBS.toml", help="the settings; options go over them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="check everything, show counts and an estimate, run nothing")
    what.add_argument("--status", action="store_true", help="show how far the run is, from its ledger alone")
    parser.add_argument("--retry-failed", action="store_true", help="try jobs again that were refused or given up")
    over = parser.add_argument_group("settings")
    for name in ("workflow", "output", "table", "picture", "scheduler"):
        over.add_argument(f"--{name}", metavar="NAME" if name == "picture" else name.upper())
    over.add_argument("--server", action="append", dest="servers", metavar="URL", help="may be given several times")
    for name, option in (("files", "file"), ("inputs", "input")):
        over.add_argument(f"--{option}", action="append", dest=name, metavar="COLUMN=NODE.INPUT",
                          help="may be given several times")
    options = vars(parser.parse_args(arguments))
    own = argparse.Namespace(**{name: options.pop(name) for name in ("jobs", "plan", "status", "retry_failed")})
    given = {name: value for name, value in options.items() if value is not None}
    for name in {"files", "inputs"} & given.keys():
        pairs = [text.partition("=") for text in given[name]]
        if not all(column and equals and target for column, equals, target in pairs):
            parser.error(f"--{name[:-1]} needs COLUMN=NODE.INPUT, such as prompt=\"Positive prompt.text\"")
        given[name] = {column: target for column, _, target in pairs}
    if own.jobs is None and not given:
        parser.error("JOBS.toml is missing")
    return own, given


async def describe(wanted: settings.Settings, classes: list[str]) -> tuple[dict, list[str]]:
    """/object_info of the first server that answers, and what the others said. ({}, []) where only Dask's workers can ask."""
    said = []
    for url in wanted.servers:
        try:
            async with Server(url, seconds=30) as server:
                return await server.object_info(classes), said
        except (Unreachable, Refused) as error:
            said.append(str(error))
    return {}, said


def check(wanted: settings.Settings) -> tuple[Plan, bool]:
    """The plan, checked as far as a server can be asked, and whether one was. Raises BulkError with all that is wrong."""
    plan = Plan(wanted, workflow.read(wanted.workflow))
    info, said = asyncio.run(describe(wanted, plan.workflow.classes))
    for sentence in said:
        show(f"Attention: {sentence}.")
    problems = checking.server_problems(plan, info) if info else []
    problems += checking.row_problems(plan, info)
    if problems:
        raise BulkError("The jobs cannot run as they are:\n" + "\n".join(f"    {problem}" for problem in problems))
    return plan, bool(info)


def show(text: str) -> None:
    print(text, flush=True)


def show_plan(plan: Plan, found: Standing, asked: bool) -> None:
    """Counts and an estimate."""
    columns = [f"{len(values)} {name}" for name, values in (plan.rows.axes or {}).items()]
    show(summary.counts(found) + (f" ({' x '.join(columns)})" if columns else ""))
    show(summary.estimate(len(plan.settings.servers) or 1, found))
    show("Inputs and files are checked." if asked else
         "Files are checked. The nodes' inputs will be checked when a server answers.")


def show_status(wanted: settings.Settings) -> None:
    """How far the run is, without any server."""
    plan = Plan(wanted, workflow.read(wanted.workflow))
    found = standing(wanted.output, plan.index())
    show(summary.counts(found))
    show_details(plan, found)


def show_details(plan: Plan, found: Standing) -> None:
    if found.servers:
        show(summary.table(found))
    if found.ended_badly:
        show(summary.bad_ends(found, plan.describe))


async def run(plan: Plan, ledger: Ledger, retry_failed: bool) -> None:
    """Starts or finds the cluster, and runs what is left."""
    from bulk.running.runner import Run
    from bulk.servers import cluster
    async with cluster.connect(plan.settings) as client:
        show(f"Dask's dashboard: {client.dashboard_link}")
        await Run(plan, client, ledger, retry_failed=retry_failed)()


def main(arguments: list[str] | None = None) -> int:
    own, given = parse(arguments)
    try:
        wanted = settings.read(own.jobs, given)
        if own.status:
            show_status(wanted)
            return DONE
        plan, asked = check(wanted)
        if wanted.servers and not asked:
            raise BulkError("None of the servers answers: start ComfyUI, or look at the addresses.")
        if own.plan:
            show_plan(plan, standing(wanted.output, plan.index()), asked)
            return DONE
        with Ledger(wanted.output, plan.index()) as ledger:
            show_plan(plan, ledger.standing, asked)
            start = time.monotonic()
            try:
                asyncio.run(run(plan, ledger, own.retry_failed))
            finally:
                found = ledger.standing
                show(f"\n{summary.counts(found)}, after {time.monotonic() - start:.0f} s")
                show_details(plan, found)
                if found.rows:
                    show(f"Contact sheet: {sheet.write(wanted.output, found, plan.describe)}")
        return JOBS_FAILED if found.left or found.ended_badly else DONE
    except BulkError as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted. Jobs that servers have already begun go on there; the same command finds them.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
