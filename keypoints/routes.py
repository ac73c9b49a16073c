"""What the keypoint editor in the browser asks the server for: a head to begin with, and heads turned."""

from ..host.server import instance
from . import head
from .json_form import MOST_PIXELS, KeypointsError, from_json, to_json, usable_keypoints

PATH = "/instantid_swift/keypoints"


def answer(asked):
    """Returns the text of the keypoints that an editor asks for.

    asked: {"state": text, "face": number, "yaw", "pitch", "roll": degrees} for the state with one face turned further; or
    {"width", "height": pixels} for a head that looks at the viewer. KeypointsError where that cannot be answered.
    """
    try:
        if "state" not in asked:
            width, height = (int(asked[side]) for side in ("width", "height"))
            if not (1 <= width <= MOST_PIXELS and 1 <= height <= MOST_PIXELS):
                raise KeypointsError(f"The picture must be 1 to {MOST_PIXELS} pixels wide and high.")
            return to_json(head.frontal_head(width, height))
        keypoints, number = from_json(asked["state"]), int(asked["face"])
        turned = head.turn(keypoints._replace(faces=(keypoints.faces[number],)),
                           *(float(asked[angle]) for angle in ("yaw", "pitch", "roll")))
        faces = list(keypoints.faces)
        faces[number], = turned.faces
        return to_json(usable_keypoints(keypoints._replace(faces=tuple(faces))))
    except KeypointsError:
        raise
    except (TypeError, KeyError, ValueError, IndexError, OverflowError) as error:
        raise KeypointsError("The keypoint editor asked for something that cannot be answered. Reload the page.") from error


def serve():
    """Adds the route to ComfyUI's server. To be called while the pack is imported. Does nothing without a server."""
    server = instance()
    if server is None or server.app.frozen or any(getattr(route, "path", None) == PATH for route in server.routes):
        return
    from aiohttp import web

    async def post(request):
        try:
            return web.json_response({"state": answer(await request.json())})
        except ValueError as error:  # KeypointsError is one, and so is malformed JSON
            return web.json_response({"error": str(error)}, status=400)
    server.routes.post(PATH)(post)
