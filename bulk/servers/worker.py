"""What runs in a Dask worker: jobs on the one ComfyUI server that belongs to it.

A worker whose name is an address (http://...) uses that server. Any other uses the server that Dask's configuration names as
`bulk.server` (in the environment: DASK_BULK__SERVER), else the one on its own machine at ComfyUI's usual port.
"""
import signal
import socket
from dataclasses import dataclass, field

import dask
from bulk.servers import prompts
from bulk.servers.http import Refused, Server, Unreachable
from distributed import Worker, WorkerPlugin, get_worker

PLUGIN = "comfyui-server"
DEFAULT = "http://127.0.0.1:8188"


@dataclass
class Report:
    """What a worker found at its server.

    server: its name in this run, which stays the same when the worker is started again. problem: why it cannot be used.
    """

    server: str
    version: str = ""
    info: dict = field(default_factory=dict)
    problem: str = ""


class ServerCheck(WorkerPlugin):
    """Belongs to each worker: knows the worker's server, and says what it is and has."""

    name = PLUGIN

    def setup(self, worker: Worker) -> None:
        if worker.nanny:        # a process of its own, which its nanny ends: Ctrl-C would only make it write a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        name = str(worker.name)
        own = name.startswith(("http://", "https://"))
        self.url = name if own else dask.config.get("bulk.server", DEFAULT)
        self.title = name if own else f"{self.url} on {socket.gethostname()}"

    async def report(self, classes: list[str]) -> Report:
        """classes: the node classes whose descriptions are wanted."""
        try:
            async with Server(self.url) as server:
                return Report(self.title, await server.version(), await server.object_info(classes))
        except (Unreachable, Refused) as error:
            return Report(self.title, problem=str(error))


async def report(classes: list[str]) -> Report:
    """The report of the worker that runs this."""
    return await get_worker().plugins[PLUGIN].report(classes)


async def run(request: prompts.Request) -> prompts.Outcome:
    """A job on the server of the worker that runs this."""
    async with Server(get_worker().plugins[PLUGIN].url) as server:
        return await prompts.run(server, request)
