"""Gives back what the pack keeps when ComfyUI is asked to: POST /free, the button "Free model and node cache".

ComfyUI unloads models by itself, an adapter's weights among them. It has no way to tell node packs that node outputs are to go.
"""

from . import caches, graph_replay


async def empty_caches_with_comfyui(request, handler):
    """Middleware of the server: after a request to free memory the pack keeps nothing either."""
    response = await handler(request)
    if request.method == "POST" and request.path in ("/free", "/api/free") and (await request.json()).get("free_memory"):
        give_back()
    return response


empty_caches_with_comfyui.__middleware_version__ = 1  # what aiohttp's decorator would set


def give_back():
    """Forgets all that is kept between runs, captures of CUDA graphs included."""
    caches.clear()
    graph_replay.drop_all()


def follow():
    """Listens to ComfyUI's server, where there is one that has not started yet."""
    import server
    instance = getattr(server.PromptServer, "instance", None)
    if instance is not None and not instance.app.frozen:
        instance.app.middlewares.append(empty_caches_with_comfyui)
