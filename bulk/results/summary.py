"""A run in numbers, as text."""
from bulk.jobs.plan import Plan
from bulk.results.ledger import Standing
from tqdm import tqdm


def counts(standing: Standing) -> str:
    """One line: how many jobs there are, and how they stand."""
    refused = sum(event == "refused" for event, *_ in standing.ended_badly.values())
    under_way = len(standing.open.keys() - standing.done)
    return (f"{len(standing.jobs)} jobs: {len(standing.done)} done, {refused} refused, "
            f"{len(standing.ended_badly) - refused} given up, {standing.left} left"
            + (f", of them {under_way} under way or interrupted" if under_way else ""))


def table(standing: Standing) -> str:
    """Per server: jobs done, seconds a job on the server, attempts that failed."""
    width = max(map(len, ["server", *standing.servers]))
    return "\n".join([f"    {'server':{width}}  jobs done  seconds a job  failed attempts", *(
        f"    {name:{width}}  {done:9}  {seconds / max(1, done):13.2f}  {failed:15}"
        for name, (done, seconds, failed) in sorted(standing.servers.items()))])


def bad_ends(standing: Standing, plan: Plan, most: int = 10) -> str:
    """The sentences of jobs that were refused or given up, each with the number of its jobs."""
    sentences: dict[tuple[str, str], list[str]] = {}
    for job, event, message in standing.without_picture:
        sentences.setdefault((event, message), []).append(plan.describe(job))
    lines = [f"    {event}: {f'{len(jobs)} jobs, such as ' if len(jobs) > 1 else ''}{jobs[0]}: {message}"
             for (event, message), jobs in sorted(sentences.items(), key=lambda item: -len(item[1]))[:most]]
    return "\n".join(lines + ["    and more; the contact sheet has them"] * (len(sentences) > most))


def estimate(servers: int, standing: Standing) -> str:
    """How long the rest will take, from the jobs measured so far."""
    if not standing.left:
        return "Nothing is left to do."
    if not standing.seconds:
        return "No job has run yet, so nothing is known about the time. The run itself tells it after the first jobs."
    mean = sum(standing.seconds) / len(standing.seconds)
    return (f"About {tqdm.format_interval(standing.left * mean / servers)} for the {standing.left} jobs left on {servers} "
            f"server{'s' if servers != 1 else ''}, at {mean:.2f} s a job (mean of the last {len(standing.seconds)}).")
