"""A run in numbers, as text."""
from collections.abc import Callable

from bulk.results.ledger import Standing


def counts(standing: Standing) -> str:
    """One line: how many jobs there are, and how they stand."""
    refused = sum(event == "refused" for event, *_ in standing.ended_badly.values())
    under_way = len(standing.open.keys() - standing.done)
    return (f"{len(standing.rows)} jobs: {len(standing.done)} done, {refused} refused, "
            f"{len(standing.ended_badly) - refused} given up, {standing.left} left"
            + (f", of them {under_way} under way or interrupted" if under_way else ""))


def table(standing: Standing) -> str:
    """Per server: jobs done, seconds a job on the server, attempts that failed."""
    head = ("server", "jobs done", "seconds a job", "failed attempts")
    rows = [(name, str(done), f"{seconds / done:.2f}" if done else "-", str(failed))
            for name, (done, seconds, failed) in sorted(standing.servers.items())]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
             for row in [head, *rows]]
    return "\n".join("    " + line for line in [lines[0], "-" * sum(widths, 2 * len(widths) - 2), *lines[1:]])


def bad_ends(standing: Standing, describe: Callable[[int, dict], str], most: int = 10) -> str:
    """The sentences of jobs that were refused or given up, each with the number of its jobs. describe: as in Plan."""
    sentences: dict[tuple[str, str], list[str]] = {}
    for row, event, message, values in standing.in_rows:
        sentences.setdefault((event, message), []).append(describe(row, values))
    lines = [f"    {event}: {f'{len(jobs)} jobs, such as ' if len(jobs) > 1 else ''}{jobs[0]}: {message}"
             for (event, message), jobs in sorted(sentences.items(), key=lambda item: -len(item[1]))[:most]]
    return "\n".join(lines + ["    and more; the contact sheet has them"] * (len(sentences) > most))


def estimate(servers: int, standing: Standing) -> str:
    """How long the rest will take, from the jobs measured so far."""
    left = standing.left
    if not left:
        return "Nothing is left to do."
    if not standing.seconds:
        return "No job has run yet, so nothing is known about the time. The run itself tells it after the first jobs."
    mean = sum(standing.seconds) / len(standing.seconds)
    return (f"About {duration(left * mean / max(1, servers))} for the {left} jobs left on {servers} "
            f"server{'s' if servers != 1 else ''}, at {mean:.2f} s a job (mean of the last {len(standing.seconds)}).")


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`"""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
