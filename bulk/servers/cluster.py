"""The Dask cluster of a run: one of its own on this machine, or one that the user has started."""
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dask
from bulk import BulkError
from bulk.jobs.settings import Settings
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = "15s"
# a worker process is ended by its nanny: Ctrl-C would only make it write a traceback
IGNORE_INTERRUPTS = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
OWN_CLUSTER = {
    "distributed.comm.require-encryption": False, "distributed.comm.default-scheme": "tcp",
    # on this machine a connection ends with its process; one that is only slow must not be taken for lost
    "distributed.comm.timeouts.tcp": "300s", "distributed.comm.timeouts.connect": "60s"}


@asynccontextmanager
async def connect(settings: Settings, *, processes: bool = True) -> AsyncIterator[Client]:
    """A client of the run's cluster. processes: whether workers of our own are processes, or threads of this one."""
    if settings.scheduler:
        try:
            client = await Client(settings.scheduler, asynchronous=True, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise BulkError(f"No Dask scheduler answers at {settings.scheduler} ({error}). Is it running, and is Dask's "
                            "configuration of TLS right?") from error
        async with client:
            yield client
        return
    if not settings.servers:
        raise BulkError('There is no server: give servers = ["http://127.0.0.1:8188"], or a scheduler.')
    # a scheduler and one worker for each server; its threads beyond `at_once` answer while jobs run
    common = {"nthreads": settings.at_once + 1, "memory_limit": 0, "dashboard": False, "death_timeout": 60,
              "silence_logs": logging.ERROR, "host": LOOPBACK, **({"preload": IGNORE_INTERRUPTS} if processes else {})}
    workers = {url: {"cls": Nanny if processes else Worker, "options": {"name": url, **common}} for url in settings.servers}
    options = {"host": LOOPBACK, "port": 0, "dashboard": True, "dashboard_address": settings.dashboard}
    with dask.config.set(OWN_CLUSTER):
        try:
            cluster = await SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": options}, asynchronous=True,
                                        silence_logs=logging.ERROR, name="bulk")
        except (RuntimeError, OSError) as error:
            reason = error.__cause__.__cause__ if error.__cause__ and error.__cause__.__cause__ else error
            raise BulkError(f"Dask could not start on this machine: {reason}. Is the setting dashboard right?") from error
        async with cluster, Client(cluster, asynchronous=True, set_as_default=False) as client:
            yield client
