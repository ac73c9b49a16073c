"""Gives back what the pack keeps when ComfyUI is asked to: POST /free, the button "Free model and node cache".

ComfyUI unloads models by itself, an adapter's weights among them. It has no way to tell node packs that node outputs are to go.
"""

from . import caches


async def empty_caches_with_comfyui(request, handler):
    """Middleware of the server: after a request to free memory the pack's caches are empty, too."""
    response = await handler(request)
    if request.method == "POST" and request.path in ("/free", "/api/free") and (await request.json()).get("free_memory"):
        caches.clear()
    return response


empty_caches_with_comfyui.__middleware_version__ = 1  # what aiohttp's decorator would set


def follow():
    """Listens to ComfyUI's server, where there is one that has not started yet."""
    import server
    instance = getattr(server.PromptServer, "instance", None)
    if instance is not None and not instance.app.frozen:
        instance.app.middlewares.append(empty_caches_with_comfyui)
