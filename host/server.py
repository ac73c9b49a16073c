"""The pack's side of ComfyUI's server: requests to free memory, the prompt that is running, texts on its nodes.

ComfyUI has no way to tell node packs that memory is to be freed, so a middleware of the server listens to POST /free, which the
button "Free model and node cache" sends.
"""

import contextlib
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

log = logging.getLogger(__name__)

_releases = []  # functions without arguments that free memory
_said = SimpleNamespace(node=None, lines=[])  # the texts on the latest node (prompt_id, node_id)


def register_release(release):
    """Registers a function without arguments, which is called whenever ComfyUI is asked to free memory."""
    _releases.append(release)


def release_memory():
    """Calls all functions registered with `register_release`."""
    for release in _releases:
        release()


async def release_memory_with_comfyui(request, handler):
    """Middleware of the server: frees the pack's memory after a request to free ComfyUI's."""
    response = await handler(request)
    if request.method == "POST" and request.path in ("/free", "/api/free") and await _asks_for_memory(request):
        release_memory()
    return response


async def _asks_for_memory(request):
    try:
        asked = await request.json()
    except ValueError:
        return False
    return isinstance(asked, dict) and bool(asked.get("free_memory"))


release_memory_with_comfyui.__middleware_version__ = 1  # set as by aiohttp's decorator


def install_middleware():
    """Installs the middleware in ComfyUI's server, where there is one that has not started yet."""
    server = instance()
    if server is not None and not server.app.frozen:
        server.app.middlewares.append(release_memory_with_comfyui)


def instance():
    """Returns ComfyUI's PromptServer; None where there is none."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def add_route(method, path, handler):
    """Adds a route to ComfyUI's server, where there is one that has not started yet and has no such route.

    method: "get" or "post". handler: aiohttp's, from a request to a response.
    """
    server = instance()
    if server is not None and not server.app.frozen and all(getattr(route, "path", None) != path for route in server.routes):
        getattr(server.routes, method)(path)(handler)


def say_on_node(text):
    """Shows a text on the node that ComfyUI is executing in this thread, below what was said on it in the same run.

    Does nothing outside of a node, or without a server that can show text. web/js takes the text off when the node runs again.
    """
    server, node = instance(), getattr(sys.modules.get("comfy_execution.utils"), "get_executing_context", lambda: None)()
    if node is None or not hasattr(server, "send_progress_text"):
        return
    if _said.node != node[:2]:
        _said.node, _said.lines = node[:2], []
    if text not in _said.lines:
        _said.lines.append(text)
        server.send_progress_text("InstantID: " + "\n".join(_said.lines), node.node_id, server.client_id)


def tell(text, level=logging.WARNING):
    """Logs a text, and shows it on the node that ComfyUI is executing. text: a sentence or more. level: one of logging's."""
    log.log(level, "InstantID: %s", text)
    say_on_node(text)


def running_prompt():
    """Returns (id, {node id: node}) of the prompt that ComfyUI is running; (None, None) if none is, or without its server."""
    queue = getattr(instance(), "prompt_queue", None)
    running = queue.get_current_queue_volatile()[0] if queue is not None else ()
    if not running:
        return None, None
    return running[0][1:3]


def pack_of(thing):
    """Returns the name of the node pack that an object's class comes from: its folder in custom_nodes, or its module's name."""
    module = type(thing).__module__
    parts = Path(getattr(sys.modules.get(module), "__file__", None) or "").parts
    return parts[parts.index("custom_nodes") + 1] if "custom_nodes" in parts else module


def outside_of_recordings():
    """Returns a context manager in which tensors may be made that outlive a forward pass.

    ComfyUI's compiler, from 0.34 on, records allocations and ends a run with one of those. Contexts must not be nested.
    """
    pause = getattr(sys.modules.get("comfy.model_prefetch"), "pause_malloc_graph", contextlib.nullcontext)
    return pause()


FEW = 4  # items that need no progress bar


def throw_if_interrupted():
    """Raises ComfyUI's exception if the user has cancelled the run. Does nothing outside of ComfyUI."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ImportError:
        return
    throw_exception_if_processing_interrupted()


def progress_bar(total):
    """Returns a function to be told how many of `total` items are done; it shows that on the node if there are many."""
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        total = 0
    return ProgressBar(total).update_absolute if total > FEW else lambda done: None
