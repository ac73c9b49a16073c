"""The Dask cluster of a run: one of its own on this machine, or one that the user has started."""
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dask
from bulk import BulkError
from bulk.jobs.settings import Settings
from distributed import Client, Nanny, Scheduler, Security, SpecCluster, Worker

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = "15s"
OWN_CLUSTER = {
    # on this machine a connection ends with its process; one that is only slow must not be taken for lost
    "distributed.comm.timeouts.tcp": "300s", "distributed.comm.timeouts.connect": "60s",
    # Dask keeps long logs of what it did; a run needs none of them
    "distributed.admin.log-length": 100, "distributed.admin.low-level-log-length": 100,
    "distributed.admin.system-monitor.log-length": 600, "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.profile.enabled": False}


def security(settings: Settings) -> Security | None:
    """Dask's TLS options, as the setting tls has them. Raises BulkError."""
    if not settings.tls:
        return None
    try:
        return Security(require_encryption=True, **settings.tls)
    except (TypeError, ValueError) as error:
        raise BulkError(f"The setting tls is not right: {error}.") from error


@asynccontextmanager
async def connect(settings: Settings, *, processes: bool = True) -> AsyncIterator[Client]:
    """A client of the run's cluster. processes: whether workers of our own are processes, or threads of this one."""
    if settings.scheduler:
        try:
            client = await Client(settings.scheduler, asynchronous=True, security=security(settings), timeout=CONNECT_SECONDS,
                                  set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise BulkError(f"No Dask scheduler answers at {settings.scheduler} ({error}). Is it running, are the TLS files "
                            "right?") from error
        async with client:
            yield client
        return
    with dask.config.set(OWN_CLUSTER):
        try:
            cluster = await own_cluster(settings, processes)
        except (RuntimeError, OSError) as error:
            reason = error.__cause__.__cause__ if error.__cause__ and error.__cause__.__cause__ else error
            raise BulkError(f"Dask could not start on this machine: {reason}. Are the settings dashboard and tls "
                            "right?") from error
        async with cluster, Client(cluster, asynchronous=True, set_as_default=False) as client:
            yield client


def own_cluster(settings: Settings, processes: bool) -> SpecCluster:
    """A scheduler and one worker for each server, listening on this machine only."""
    if not settings.servers:
        raise BulkError('There is no server: give servers = ["http://127.0.0.1:8188"], or a scheduler.')
    secured = security(settings)
    spoken = {"host": LOOPBACK, "protocol": "tls" if secured else "tcp", "security": secured}
    # the threads beyond `at_once` answer while jobs run
    common = {"nthreads": settings.at_once + 1, "memory_limit": 0, "dashboard": False, "death_timeout": 60,
              "silence_logs": logging.ERROR, **spoken}
    workers = {url: {"cls": Nanny if processes else Worker, "options": {"name": url, **common}} for url in settings.servers}
    scheduler = {"cls": Scheduler, "options": {"port": 0, "dashboard": True, "dashboard_address": settings.dashboard, **spoken}}
    return SpecCluster(workers=workers, scheduler=scheduler, asynchronous=True, security=secured,
                       silence_logs=logging.ERROR, name="bulk")
