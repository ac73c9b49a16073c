"""The adapter of ComfyUI's server: requests to free memory, the prompt that is running, packs that register the same nodes.

ComfyUI unloads models by itself, an adapter's weights among them. It has no way to tell node packs that node outputs are to go,
so a middleware of the server listens to POST /free, which the button "Free model and node cache" sends.
"""

import logging
import sys

log = logging.getLogger(__name__)

_releases = []  # functions without arguments that give memory back


def when_asked_to_free(release):
    """Registers a function without arguments, which is called whenever ComfyUI is asked to free memory."""
    _releases.append(release)


def release_memory():
    """Calls all functions registered with `when_asked_to_free`."""
    for release in _releases:
        release()


async def release_memory_with_comfyui(request, handler):
    """Middleware of the server: after a request to free memory the pack keeps nothing either."""
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


release_memory_with_comfyui.__middleware_version__ = 1  # what aiohttp's decorator would set


def listen():
    """Installs the middleware in ComfyUI's server, where there is one that has not started yet."""
    import server
    instance = getattr(server.PromptServer, "instance", None)
    if instance is not None and not instance.app.frozen:
        instance.app.middlewares.append(release_memory_with_comfyui)


def running_prompt():
    """Returns (id, {node id: node}) of the prompt that ComfyUI is running; (None, None) if none is, or without its server."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    queue = getattr(server, "prompt_queue", None)
    running = queue.get_current_queue_volatile()[0] if queue is not None else ()
    if not running:
        return None, None
    prompt_id, prompt = running[0][1:3]
    _undo_settings_of_missing_nodes(prompt_id, prompt)
    return prompt_id, prompt


_undo = {}             # class type of a node: function that undoes what the node has set for the whole process
_looked_at = [None]    # id of the last prompt whose nodes were looked at


def when_missing(class_type, undo):
    """Registers a function without arguments, which is called for each prompt that has no node of a class type. It is called
    when the pack's first stage in the prompt begins, and so before anything is computed."""
    _undo[class_type] = undo


def _undo_settings_of_missing_nodes(prompt_id, prompt):
    if prompt_id != _looked_at[0]:
        _looked_at[0] = prompt_id
        present = {node.get("class_type") for node in prompt.values()}
        for class_type, undo in _undo.items():
            if class_type not in present:
                undo()


def warn_of_twins(own_module, node_ids):
    """Logs a warning where other packs have registered nodes with the same ids: ComfyUI silently keeps the one loaded last."""
    registered = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    twins = {registered[name].__module__ for name in node_ids if name in registered} - {own_module}
    if twins:
        log.warning("InstantID Swift: %s has registered the same nodes. Keep one of the two packs in custom_nodes: whichever "
                    "is loaded last is used.", " and ".join(sorted(twins)))
