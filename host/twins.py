"""Other packs that register nodes with our ids. ComfyUI uses the nodes of the pack that was imported last, and says nothing.

Packs that came before us are seen at our own import, packs that come after us when the server starts: by then all packs are
imported. The check is by id only.
"""

import logging
import sys

from .server import instance

log = logging.getLogger(__name__)

PATH = "/instantid_swift/twins"  # where the editor asks for the warning: {"warning": text, "" for none}


def folder_of(node):
    """Returns the folder of a node class as a user knows it, such as "custom_nodes/InstantID-Swift"."""
    return getattr(node, "RELATIVE_PYTHON_MODULE", node.__module__).replace("custom_nodes.", "custom_nodes/", 1)


def warning_of_twins(ours, earlier, now):
    """Returns a warning about other packs with our ids: a few sentences, or "" if there are none.

    All three are {id: node class}. ours: of this pack. earlier: what was registered before it. now: what ComfyUI uses.
    """
    here = folder_of(next(iter(ours.values())))
    earlier = {name: node for name, node in earlier.items() if name in ours and folder_of(node) != here}
    lost = {name: now[name] for name in ours if name in now and now[name] is not ours[name]}
    others = sorted({folder_of(node) for node in (*earlier.values(), *lost.values())})
    if not others:
        return ""
    shared = sorted({*earlier, *lost})
    used = {name: folder_of(lost[name]) if name in lost else here for name in shared}
    uses = ". ".join(f"ComfyUI now uses {folder} for {', '.join(name for name in shared if used[name] == folder)}"
                     for folder in sorted(set(used.values())))
    return (f"{' and '.join(others)} and {here} (InstantID Swift) register the same nodes. Keep one of these folders: remove "
            f"or disable the others, then restart ComfyUI. {uses}.")


def watch(ours):
    """Checks for twins when ComfyUI's server starts: one warning in the log, and an answer for the editor.

    ours: {id: node class} of this pack. To be called while the pack is imported. Does nothing without a server.
    """
    registry = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    server = instance()
    if server is None or server.app.frozen or any(getattr(route, "path", None) == PATH for route in server.routes):
        return
    from aiohttp import web
    earlier = {name: registry[name] for name in ours if name in registry}
    found = {"warning": ""}

    async def check(app):
        found["warning"] = warning_of_twins(ours, earlier, registry)
        if found["warning"]:
            log.warning("InstantID: %s", found["warning"])

    async def reply(request):
        return web.json_response(found)
    server.app.on_startup.append(check)
    server.routes.get(PATH)(reply)
