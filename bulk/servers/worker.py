"""What runs in a Dask worker: jobs on the one ComfyUI server that belongs to it.

A worker whose name is an address (http://...) uses that server. Any other uses the server that Dask's configuration names as
`bulk.server` (in the environment: DASK_BULK__SERVER), else the one on its own machine at ComfyUI's usual port.
"""
import socket

import dask
from bulk.servers import prompts
from bulk.servers.http import Server, ServerError
from distributed import get_worker

DEFAULT = "http://127.0.0.1:8188"


def own_server() -> tuple[str, str]:
    """(address, name in the run) of the server of the worker that runs this. The name outlives the worker."""
    name = str(get_worker().name)
    if name.startswith(("http://", "https://")):
        return name, name
    url = dask.config.get("bulk.server", DEFAULT)
    return url, f"{url} on {socket.gethostname()}"


async def report(classes: list[str]) -> tuple[str, dict, str]:
    """(name of the worker's server, its /object_info of these node classes, the reason why it has none)."""
    url, name = own_server()
    try:
        async with Server(url) as server:
            return name, await server.object_info(classes), ""
    except ServerError as error:
        return name, {}, str(error)


async def run(request: prompts.Request) -> prompts.Outcome:
    """Runs a job on the worker's server."""
    async with Server(own_server()[0]) as server:
        return await prompts.run(server, request)
