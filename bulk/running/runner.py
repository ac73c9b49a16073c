"""A run: reads jobs, hands them to servers, and writes down what comes of each.

Every server has `at_once` coroutines, each of which has one job at a time; that is the window of submitted jobs. What goes
wrong on a server comes back as an outcome and not as an exception. The choice of the next server and the wait before it are
made here: Dask's own `retries` and `Reschedule` give the job to a worker at once, without a wait, and to the same one where the
job is bound to it, as all jobs of a person are.
"""
import asyncio
import itertools
import time
from collections.abc import Iterator

from bulk import BulkError
from bulk.jobs import checking
from bulk.jobs.plan import Job, Plan, bytes_of
from bulk.results import pictures
from bulk.results.ledger import Ledger
from bulk.running.dispatch import Dispatch
from bulk.running.progress import Progress
from bulk.running.roster import ServerState, pause_after
from bulk.servers import cluster, worker
from bulk.servers.prompts import Outcome, Request
from dask.utils import key_split
from distributed import Client, span

LOOK_AHEAD = 2000           # jobs between the plan and the servers
READ_AT_ONCE = 64
WATCH_SECONDS = 1.0         # between two looks at the workers
IDLE_SECONDS = 0.2          # of a coroutine that has nothing to do
CHECK_SECONDS = 60.0        # for a worker's report
WORKER_LOST, DASK = "worker lost", "dask"       # reasons of failures, beside those of servers/prompts.py
MOST_TOLD = 20              # jobs that ended badly


class Run:
    """One run of a plan on the workers of a Dask client."""

    def __init__(self, plan: Plan, client: Client, ledger: Ledger, progress: Progress, *, retry_failed: bool = False):
        self.plan, self.client, self.ledger, self.progress = plan, client, ledger, progress
        self.settings, self.retry_failed = plan.settings, retry_failed
        self.folder = plan.settings.output / pictures.RESULTS
        self.servers: dict[str, ServerState] = {}
        self.dispatch = Dispatch(LOOK_AHEAD)
        self.attempts: dict[str, int] = {}          # of jobs that have failed and not ended
        self.active: set[str] = set()               # jobs that were read and have not ended
        self.told = 0                               # jobs that ended badly and were told one by one
        self.all_read = False
        self.hopeless_since: float | None = time.monotonic()
        # Dask's keys are (name, job, number): one name, since Dask never forgets a name; a number makes each key a new one
        self._asked = itertools.count()
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def finished(self) -> bool:
        return self.all_read and not self.active

    async def __call__(self) -> None:
        """Runs all jobs to their ends. Raises BulkError where no server is left."""
        standing = self.ledger.standing
        for job in standing.open.keys() & standing.done:        # killed between the picture and the ledger's line
            self.ledger.add(job, "done", **pictures.text_of(pictures.path_of(self.folder, job)))
        self.progress.ended = len(standing.done) + (0 if self.retry_failed else len(standing.ended_badly))
        await self.client.register_plugin(cluster.ShortHistory())
        await self.client.register_plugin(worker.ServerCheck())
        try:
            # one span for all: else Dask begins another one whenever it is idle, and keeps them all
            with span("bulk"):
                async with asyncio.TaskGroup() as self._tasks:
                    self._tasks.create_task(self._read())
                    self._tasks.create_task(self._watch())
        except* (BulkError, OSError) as errors:      # a full disk, a Dask scheduler that is gone
            raise BulkError(str(errors.exceptions[0])) from errors

    # ---- reading ----

    async def _read(self) -> None:
        """Keeps the dispatch filled, in a thread: files are hashed, pictures looked for."""
        jobs = self._left()
        while True:
            if not self.dispatch.room:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            batch = await asyncio.to_thread(lambda: list(itertools.islice(jobs, READ_AT_ONCE)))
            fresh = []
            for job in batch:
                self.active.add(job.id)
                server = self.ledger.standing.open.get(job.id)
                if server:
                    self.dispatch.take_home(job, server)
                else:
                    fresh.append(job)
            self.dispatch.add(fresh)
            if not batch:
                self.all_read = True
                return

    def _left(self) -> Iterator[Job]:
        """The plan's jobs that have not ended, each once, though it may stand in several rows."""
        standing = self.ledger.standing
        for number, job in enumerate(self.plan.jobs(), 1):
            if standing.rows.get(job.id) == number and job.id not in standing.done and (
                    self.retry_failed or job.id not in standing.ended_badly):
                yield job

    # ---- servers ----

    async def _watch(self) -> None:
        """Notes which workers come and go, until all is done. Raises BulkError where there is no hope."""
        reports: dict[str, asyncio.Task] = {}
        while not self.finished:
            identity = await self.client.scheduler.identity(n_workers=-1)
            workers = {address for address, facts in identity["workers"].items() if worker.RESOURCE in facts["resources"]}
            for address in workers - reports.keys():
                reports[address] = self._tasks.create_task(self._welcome(address))
            for address in reports.keys() - workers:
                reports.pop(address).cancel()
            for server in self.servers.values():
                if server.worker is not None and server.worker not in workers:
                    self.progress.say(f"The worker of {server.name} is lost.")
                    server.disconnected()
                    self.dispatch.leave(server.name)
            self._despair()
            self.progress.draw()
            key_split.cache_clear()     # Dask keeps the last 100,000 keys there, tens of MB
            await asyncio.sleep(WATCH_SECONDS)
        for task in reports.values():
            task.cancel()

    def _despair(self) -> None:
        if not all(server.hopeless for server in self.servers.values()):
            self.hopeless_since = None
            return
        self.hopeless_since = self.hopeless_since or time.monotonic()
        unfit = self.settings.servers and len(self.servers) == len(self.settings.servers) \
            and all(server.unfit for server in self.servers.values())
        if unfit or time.monotonic() - self.hopeless_since > self.settings.patience_seconds:
            why = "\n".join(f"    {server.name}: {server.problem or 'set aside' if server.worker else 'its worker is gone'}"
                            for server in self.servers.values()) or "    no worker has come"
            raise BulkError(f"No server can take jobs:\n{why}\nWhat is done stays done: the same command goes on from here.")

    async def _welcome(self, address: str) -> None:
        """Asks a new worker for its server, until the server answers; then starts giving it jobs."""
        for failures in itertools.count(1):
            report = await self._report(address)
            server = self._server(report.server) if report else None
            if server and server.worker in (None, address):     # else it has another worker, which may be about to go
                problems = [report.problem] if report.problem else checking.server_problems(self.plan, report.info)
                problem = " ".join(problems)
                if problem and problem != server.problem:
                    self.progress.say(f"{server.name} cannot be used: {problem}")
                server.problem, server.unfit, server.version = problem, bool(problem and report.info), report.version
                server.connected(address)
                if not problem:
                    self.progress.say(f"{server.name} takes jobs (ComfyUI {server.version}).")
                    return
            await asyncio.sleep(pause_after(failures))

    def _server(self, name: str) -> ServerState:
        """The server's state; a server that is new gets its coroutines."""
        if name not in self.servers:
            self.servers[name] = ServerState(name)
            for _ in range(self.settings.at_once):
                self._tasks.create_task(self._serve(self.servers[name]))
        return self.servers[name]

    async def _report(self, address: str) -> worker.Report | None:
        future = self.client.submit(worker.report, self.plan.workflow.classes, workers=[address],
                                    key=("report", next(self._asked)), pure=False)
        try:
            return await asyncio.wait_for(future.result(), CHECK_SECONDS)
        except Exception:       # the worker went away in the meantime, or is too old to have the plugin
            return None
        finally:
            future.release()

    # ---- jobs ----

    async def _serve(self, server: ServerState) -> None:
        """One place at a server: one job after the other."""
        while not self.finished:
            if server.usable and server.set_aside and not await self._answers(server):
                continue
            job = self.dispatch.next(server.name) if server.usable else None
            if job is None:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            outcome = await self._ask(server, job)
            if outcome.kind == "failed":
                self._failed(server, job, outcome)
            else:
                await self._end(server, job, outcome)

    async def _answers(self, server: ServerState) -> bool:
        """Whether a server that was set aside answers again. If not, it rests longer."""
        server.not_before = time.monotonic() + CHECK_SECONDS        # one coroutine asks for all
        report = await self._report(server.worker)
        if report and not report.problem:
            server.not_before = 0.0
            return True
        server.failures_in_row += 1
        server.not_before = time.monotonic() + pause_after(server.failures_in_row)
        return False

    async def _ask(self, server: ServerState, job: Job) -> Outcome:
        """The outcome of a job on a server, which gets the job's files if it lacks them."""
        self.ledger.add(job.id, "submitted", server=server.name, attempt=self.attempts.get(job.id, 0) + 1)
        content: dict[str, bytes] = {}
        while True:
            request = Request(job.id, self.plan.prompt(job), {file.name: file.size for file in job.files}, content,
                              self.plan.picture, self.settings.job_seconds)
            outcome = await self._outcome(server, request)
            if outcome.kind != "needs files":
                return outcome
            if content:
                return Outcome("failed", f"{server.name} does not keep the files it is sent", "server error")
            try:
                content = {file.name: await asyncio.to_thread(bytes_of, file) for file in job.files
                           if file.name in outcome.missing}
            except BulkError as error:
                return Outcome("refused", str(error))

    async def _outcome(self, server: ServerState, request: Request) -> Outcome:
        future = self.client.submit(worker.run, request, workers=[server.worker], key=("job", request.id, next(self._asked)),
                                    resources={worker.RESOURCE: 1 / self.settings.at_once}, pure=False)
        result, gone = asyncio.ensure_future(future.result()), asyncio.ensure_future(server.gone.wait())
        try:
            await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
            return result.result() if result.done() else Outcome("failed", f"the worker of {server.name} was lost", WORKER_LOST)
        except Exception as error:      # Dask's own, such as a lost connection to the scheduler
            return Outcome("failed", f"the worker of {server.name}: {type(error).__name__}: {error}", DASK)
        finally:
            for task in (result, gone):
                task.cancel()
            future.release()

    async def _end(self, server: ServerState, job: Job, outcome: Outcome) -> None:
        """The job is done, or refused for good."""
        server.succeeded()
        if outcome.kind == "done":
            server.done += 1
            content = {"server": server.name, "person": job.person, "values": job.values, "seconds": outcome.seconds}
            if outcome.likeness is not None:
                content["likeness"] = outcome.likeness
            if outcome.found:
                content["found"] = True
            names = await asyncio.to_thread(pictures.save, self.folder, job.id, outcome.pictures, content)
            self._over(job, "done", **content, files=names)
        else:
            self._over(job, "refused", message=outcome.message, values=job.values, server=server.name)

    def _failed(self, server: ServerState, job: Job, outcome: Outcome) -> None:
        """The job goes elsewhere, or is given up after the last attempt. Where a worker was lost, its server may still have the
        job: it goes back there when there is a new worker."""
        attempt = self.attempts[job.id] = self.attempts.get(job.id, 0) + 1
        self.ledger.add(job.id, "failed", server=server.name, reason=outcome.reason, message=outcome.message, attempt=attempt)
        if outcome.reason != WORKER_LOST:
            server.has_failed(outcome.message, self.progress)
            if server.set_aside:
                self.dispatch.leave(server.name)
        if attempt < self.settings.attempts and outcome.reason == WORKER_LOST:
            self.dispatch.take_home(job, server.name)
        elif attempt < self.settings.attempts:
            self.dispatch.take_elsewhere(job, server.name, pause_after(attempt))
        else:
            self._over(job, "given up", message=outcome.message, values=job.values)

    def _over(self, job: Job, event: str, **content: object) -> None:
        self.ledger.add(job.id, event, **content)
        self.attempts.pop(job.id, None)
        self.active.discard(job.id)
        if event != "done":
            self.told += 1
            if self.told <= MOST_TOLD:
                name = self.plan.describe(self.ledger.standing.rows[job.id], job.values)
                self.progress.say(f"{event}: {name}: {content['message']}"
                                  + (" (Further ones are in the ledger only.)" if self.told == MOST_TOLD else ""))
        self.progress.job_ended()
