"""A run: hands jobs to servers, and writes down what comes of each.

Every server has `at_once` coroutines, each of which has one job at a time. What goes wrong on a server comes back as an
outcome and not as an exception. The choice of the next server and the wait before it are made here: Dask's own `retries` and
`Reschedule` give the job to a worker at once, without a wait, and to the same one where the job is bound to it, as all jobs of
a person are.
"""
import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

from bulk import BulkError
from bulk.jobs import checking
from bulk.jobs.plan import Job, Plan, bytes_of
from bulk.results import pictures
from bulk.results.ledger import Ledger
from bulk.running.dispatch import Dispatch
from bulk.servers import worker
from bulk.servers.prompts import UNREADABLE, Outcome, Request
from distributed import Client, span
from tqdm import tqdm

WATCH_SECONDS = 1.0         # between two looks at the workers
IDLE_SECONDS = 0.2          # of a coroutine that has nothing to do
SET_ASIDE_AFTER = 3         # failures of a server in a row
LONGEST_PAUSE = 60.0        # below patience_seconds: a server that is asked and answers is not given up
HOME_SECONDS = 30.0         # a server that may still have a job gets so long to come back before another one takes it
ELSEWHERE_SECONDS = 10.0    # other servers get so long to take what failed on one
WORKER_LOST = "worker lost"
MOST_TOLD = 20              # jobs that ended badly; all of them are told at the end
LINE_SECONDS = 10.0         # between two states of the bar where the output is no terminal


class WorkerLost(Exception):
    """Dask has lost a worker. Its server may still have the job."""


@dataclass
class ServerState:
    """A server and the Dask worker, by address, that reaches it. problem: the reason why it takes no jobs now."""

    name: str
    worker: str
    problem: str = "its worker has not answered yet"
    failures_in_row: int = 0


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, ..., at most a minute."""
    return min(2.0 ** min(failures - 1, 10), LONGEST_PAUSE)     # no float is large enough for a server that is gone for days


class Run:
    """One run of a plan on the workers of a Dask client. stream: where the progress is shown."""

    def __init__(self, plan: Plan, client: Client, ledger: Ledger, *, retry_failed: bool = False, stream: TextIO = sys.stderr):
        self.plan, self.client, self.ledger = plan, client, ledger
        self.settings, self.standing, self.folder = plan.settings, ledger.standing, plan.settings.output / pictures.RESULTS
        self.servers: dict[str, ServerState] = {}   # by the address of the worker, as long as that is there
        self.dispatch = Dispatch()
        self.attempts: Counter[str] = Counter()     # failed ones of jobs that have not ended
        self.left = 0                               # jobs that have not ended
        self.hope = time.monotonic()                # when a server could last be used
        for name, job in self.standing.jobs.items():
            if name not in self.standing.done and (retry_failed or name not in self.standing.ended_badly):
                self.left += 1
                if name in self.standing.open:
                    self._take_home(job, self.standing.open[name])
                else:
                    self.dispatch.add(job)
        self.bar = tqdm(total=len(self.standing.jobs), initial=len(self.standing.jobs) - self.left, unit="job", file=stream,
                        smoothing=0.05, mininterval=0.2 if stream.isatty() else LINE_SECONDS)

    def say(self, text: str) -> None:
        """Shows a line that stays."""
        self.bar.write(text, file=self.bar.fp)

    async def __call__(self) -> None:
        """Runs all jobs to their ends. Raises BulkError where no server is left."""
        for job in self.standing.open.keys() & self.standing.done:      # killed between the picture and the ledger's line
            self.ledger.add(job, "done", **pictures.text_of(self.folder / f"{job}.png"))
        try:
            # one span for all: else Dask begins another one whenever it is idle, and keeps them all
            with self.bar, span("bulk"):
                async with asyncio.TaskGroup() as tasks:
                    await self._watch(tasks)
        except* (BulkError, OSError) as errors:      # such as a full disk, or a Dask scheduler that is gone
            raise BulkError(str(errors.exceptions[0])) from errors

    def _take_home(self, job: Job, server: str) -> None:
        """The job may be running on this server, or be done there: it goes there first."""
        self.dispatch.add_again(job, server, here=0, elsewhere=time.monotonic() + HOME_SECONDS)

    # ---- servers ----

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        """Serves each worker from when it comes until it goes or all is done. Raises BulkError where there is no hope."""
        serving = []
        while self.left:
            workers = (await self.client.scheduler.identity(n_workers=-1))["workers"].keys()
            for address in self.servers.keys() - workers:
                self.say(f"The worker of {self.servers.pop(address).name} is lost.")
            for address in workers - self.servers.keys():
                self.servers[address] = ServerState(address, address)
                serving.append(tasks.create_task(self._serve(self.servers[address])))
            if any(not server.problem for server in self.servers.values()):
                self.hope = time.monotonic()
            elif time.monotonic() - self.hope > self.settings.patience_seconds:
                why = "\n".join(f"    {server.name}: {server.problem}" for server in self.servers.values())
                raise BulkError(f"No server can take jobs:\n{why or '    no worker has come'}\n"
                                "What is done stays done: the same command goes on from here.")
            await asyncio.sleep(WATCH_SECONDS)
        for task in serving:
            task.cancel()

    def _there(self, server: ServerState) -> bool:
        """Whether the server's worker is there."""
        return self.servers.get(server.worker) is server

    async def _serve(self, server: ServerState) -> None:
        """Gives jobs to the server of a new worker, until the worker is gone."""
        await self._wait_for(server)
        await asyncio.gather(*(self._place(server) for _ in range(self.settings.at_once)))
        self.dispatch.leave(server.name)

    async def _wait_for(self, server: ServerState) -> None:
        """Asks a worker for its server from time to time, until that can be used."""
        for failures in itertools.count(max(1, server.failures_in_row)):
            name, info, problem = await self._report(server)
            server.name = name or server.name
            problem = problem or " ".join(checking.server_problems(self.plan, info))
            if not problem or not self._there(server):
                break
            if problem != server.problem:
                self.say(f"{server.name} cannot be used: {problem}")
            server.problem = problem
            await asyncio.sleep(pause_after(failures))
        if server.problem and not problem:
            self.say(f"{server.name} takes jobs.")
            self.hope = time.monotonic()
        server.problem = problem

    async def _report(self, server: ServerState) -> tuple[str, dict, str]:
        """What a worker finds at its server, as worker.report has it."""
        try:
            return await self._call(server, worker.report, self.plan.workflow.classes)
        except Exception as error:      # such as a worker that is lost
            return "", {}, f"its Dask worker does not answer ({type(error).__name__} {error})"

    async def _call(self, server: ServerState, function: Callable, *arguments: object) -> object:
        """The result of a function in a server's worker. Raises WorkerLost, and what Dask raises."""
        future = self.client.submit(function, *arguments, workers=[server.worker], pure=False)
        result = asyncio.ensure_future(future.result())
        try:
            while not (await asyncio.wait([result], timeout=WATCH_SECONDS))[0]:
                if not self._there(server):
                    raise WorkerLost(f"the worker of {server.name} was lost")
            return result.result()
        finally:
            result.cancel()
            future.release()

    async def _place(self, server: ServerState) -> None:
        """One place at a server: one job after the other."""
        while self._there(server):
            job = None if server.problem else self.dispatch.next(server.name)
            if job is None:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            outcome = await self._ask(server, job)
            if outcome.kind == "failed":
                self._failed(server, job, outcome)
                await asyncio.sleep(pause_after(server.failures_in_row))
                if server.problem:
                    await self._wait_for(server)
            else:
                server.failures_in_row = 0
                await self._end(server, job, outcome)

    # ---- a job ----

    async def _ask(self, server: ServerState, job: Job) -> Outcome:
        """The outcome of a job on a server, which gets the job's files if it lacks them."""
        self.ledger.add(job.id, "submitted", server=server.name, attempt=self.attempts[job.id] + 1)
        request = Request(job.id, self.plan.prompt(job), {file.name: file.size for file in job.files.values()},
                          picture=self.plan.picture, seconds=self.settings.job_seconds)
        outcome = await self._outcome(server, request)
        if outcome.kind != "needs files":
            return outcome
        try:
            content = {file.name: await asyncio.to_thread(bytes_of, file) for file in job.files.values()
                       if file.name in outcome.missing}
        except BulkError as error:
            return Outcome("refused", str(error))
        return await self._outcome(server, replace(request, content=content))

    async def _outcome(self, server: ServerState, request: Request) -> Outcome:
        try:
            return await self._call(server, worker.run, request)
        except WorkerLost as error:
            return Outcome("failed", str(error), WORKER_LOST)
        except Exception as error:      # Dask's own, such as a lost connection to the scheduler
            return Outcome("failed", f"the worker of {server.name}: {type(error).__name__}: {error}", "dask")

    async def _end(self, server: ServerState, job: Job, outcome: Outcome) -> None:
        """The job is done, or refused for good."""
        if outcome.kind == "refused":
            self._over(job, "refused", message=outcome.message, values=job.values, server=server.name)
            return
        content = {"server": server.name, "person": job.person, "values": job.values, "seconds": outcome.seconds,
                   "likeness": outcome.likeness, "found": outcome.found}
        content = {name: value for name, value in content.items() if value is not None}
        names = await asyncio.to_thread(pictures.save, self.folder, job.id, outcome.pictures, content)
        self._over(job, "done", **content, files=names)

    def _failed(self, server: ServerState, job: Job, outcome: Outcome) -> None:
        """The job goes elsewhere, or is given up after the last attempt. Where a worker was lost, its server may still have the
        job: it goes back there when there is a new worker."""
        attempt = self.attempts[job.id] = self.attempts[job.id] + 1
        self.ledger.add(job.id, "failed", server=server.name, reason=outcome.reason, message=outcome.message, attempt=attempt)
        failed = [f"{name} {count}" for name, (_, _, count) in self.standing.servers.items() if count]
        self.bar.set_postfix_str(f"failures: {', '.join(failed)}")
        if outcome.reason not in (WORKER_LOST, UNREADABLE):     # neither tells that other jobs will fail on the server
            server.failures_in_row += 1
            if server.failures_in_row == SET_ASIDE_AFTER:
                self.say(f"{server.name} has failed {SET_ASIDE_AFTER} times in a row and is set aside; it is asked again from "
                         f"time to time. The last reason: {outcome.message}")
            if server.failures_in_row >= SET_ASIDE_AFTER:
                server.problem = f"set aside: {outcome.message}"
                self.dispatch.leave(server.name)
        due = time.monotonic() + pause_after(attempt)
        if attempt >= self.settings.attempts:
            self._over(job, "given up", message=outcome.message, values=job.values)
        elif outcome.reason == WORKER_LOST:
            self._take_home(job, server.name)
        else:
            self.dispatch.add_again(job, server.name, here=due + ELSEWHERE_SECONDS, elsewhere=due)

    def _over(self, job: Job, event: str, **content: object) -> None:
        self.ledger.add(job.id, event, **content)
        self.attempts.pop(job.id, None)
        self.left -= 1
        if event != "done" and len(self.standing.ended_badly) <= MOST_TOLD:
            self.say(f"{event}: {self.plan.describe(job)}: {content['message']}")
        self.bar.update()
