"""The nodes that make, change and draw keypoints. Links carry them as KEYPOINTS, texts as JSON."""

import torch

from ..faces import Photos
from ..host import server
from ..options.inputs import FACE_ANALYSIS, OPTIONS, number
from ..options.nodes import DEFAULTS
from ..utils import InstantIDError, check_photos
from . import head, place
from .keypoints import MOST_PIXELS, KeypointFace, Keypoints, drawing, from_json, to_json, usable_keypoints
from .pose import keypoints_of_pose

CATEGORY = "InstantID/keypoints"
GIVEN = ("KEYPOINTS", {"tooltip": "Keypoints of one or more faces."})
MADE = "The keypoints, for the other keypoint nodes and for InstantID Place Person."
ALIASES = ["kps", "face keypoints", "face landmarks", "head pose", "free pose", "关键点", "姿势"]


def _integer(default, low, high, tooltip):
    return ("INT", {"default": default, "min": low, "max": high, "tooltip": tooltip})


WIDTH = _integer(1024, 1, MOST_PIXELS, "Width of the picture in pixels.")
HEIGHT = _integer(1024, 1, MOST_PIXELS, "Height of the picture in pixels.")


def _degrees(tooltip, low=-180.0, high=180.0, default=0.0):
    return number(default, low, high, 0.5, f"{tooltip} In degrees.")


YAW, PITCH, ROLL = "Turns the head to the right edge of the picture.", "Lifts the head.", "Tilts the head clockwise."


class InstantIDKeypoints:
    DESCRIPTION = "Finds the eyes, the nose and the mouth of the face in a photo, as keypoints that can be moved and turned."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ALIASES
    RETURN_TYPES = ("KEYPOINTS", "STRING")
    RETURN_NAMES = ("keypoints", "json")
    OUTPUT_TOOLTIPS = (MADE, "The same keypoints as a text.")
    FUNCTION = "find"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "insightface": FACE_ANALYSIS,
                "image": ("IMAGE", {"tooltip": "A photo with at least one face. Of several photos the first one counts."}),
                "faces": (["chosen", "all"], {"default": "chosen", "tooltip": (
                    "chosen: the largest face, or the one that InstantID Options names. all: every face, in the order of "
                    "InstantID Options.")}),
            },
            "optional": {"options": OPTIONS},
        }

    def find(self, insightface, image, faces="chosen", options=DEFAULTS):
        photos = Photos(insightface, image[:1], **options.photo_arguments)
        found = photos.choice.sort(photos.found[0], photos.size) if faces == "all" else photos.chosen
        if not any(found):
            photos.raise_no_face()
        keypoints = Keypoints(*photos.size, tuple(KeypointFace(face.points) for face in found))
        return keypoints, to_json(keypoints)


class InstantIDKeypointsFromPose:
    DESCRIPTION = ("Takes the faces out of a pose, so that a ControlNet for bodies and IdentityNet follow one skeleton. Reads "
                   "the poses of ComfyUI's SDPose and MediaPipe nodes and of the pack comfyui_controlnet_aux.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "openpose", "dwpose", "sdpose", "mediapipe", "skeleton", "full body", "pose keypoint"]
    RETURN_TYPES = ("KEYPOINTS",)
    RETURN_NAMES = ("keypoints",)
    OUTPUT_TOOLTIPS = (f"{MADE} They hold everybody in the pose, from left to right.",)
    FUNCTION = "read"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "pose": ("POSE_KEYPOINT,FACE_LANDMARKS", {"tooltip": (
                "A pose. Connect SDPose Keypoint Extractor, DWPose Estimator, OpenPose Pose or Detect Face Landmarks "
                "(MediaPipe). Of several pictures the first one counts.")}),
            "least_confidence": number(0.3, 0.0, 1.0, 0.01, "Points of which the pose is less certain are left out, as "
                                                            "ComfyUI's drawing of poses leaves them out below 0.3."),
        }}

    def read(self, pose, least_confidence=0.3):
        return (keypoints_of_pose(pose, least_confidence),)


class InstantIDPlaceKeypoints:
    DESCRIPTION = ("Moves, scales, rotates or mirrors the faces of keypoints, or fits them into a box or a mask. Mirroring "
                   "comes first, then fitting, scaling, rotating and moving.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "move face", "scale face", "fit face"]
    RETURN_TYPES = ("KEYPOINTS",)
    RETURN_NAMES = ("keypoints",)
    OUTPUT_TOOLTIPS = (MADE,)
    FUNCTION = "place"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "keypoints": GIVEN,
                "move_x": number(0.0, -MOST_PIXELS, MOST_PIXELS, 1.0, "Moves the faces to the right, in pixels."),
                "move_y": number(0.0, -MOST_PIXELS, MOST_PIXELS, 1.0, "Moves the faces down, in pixels."),
                "scale": number(1.0, 0.01, 100.0, 0.01, "Makes the faces larger or smaller about their middle."),
                "rotate": _degrees("Rotates the faces clockwise about their middle."),
                "flip": ("BOOLEAN", {"default": False, "tooltip": "Mirrors the faces from left to right in the picture."}),
            },
            "optional": {
                "box": ("BOUNDING_BOX", {"forceInput": True, "tooltip": (
                    "A box that the faces fill, as other nodes of ComfyUI make them.")}),
                "mask": ("MASK", {"tooltip": "A mask whose white part the faces fill. A connected box is used in its place."}),
            },
        }

    def place(self, keypoints, move_x=0.0, move_y=0.0, scale=1.0, rotate=0.0, flip=False, box=None, mask=None):
        keypoints = usable_keypoints(keypoints)
        if flip:
            keypoints = place.flipped(keypoints)
        if box is not None:
            keypoints = place.fitted(keypoints, place.corners(box))
        elif mask is not None:
            keypoints = place.fitted(keypoints, place.box_of_mask(mask, keypoints.width, keypoints.height))
        return (usable_keypoints(place.moved(place.rotated(place.scaled(keypoints, scale), rotate), move_x, move_y)),)


class InstantIDTurnHead:
    DESCRIPTION = ("Places a head without a photo, turned as you like. With keypoints connected it turns their heads further "
                   "and leaves them where they are. Points on the far side of the head fade out.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "turn head", "yaw", "pitch", "roll", "look left", "profile", "3d head"]
    RETURN_TYPES = ("KEYPOINTS",)
    RETURN_NAMES = ("keypoints",)
    OUTPUT_TOOLTIPS = (MADE,)
    FUNCTION = "turn"

    @classmethod
    def INPUT_TYPES(cls):
        placed = "Only without connected keypoints."
        return {
            "required": {
                "yaw": _degrees(f"{YAW} Negative: to the left edge."),
                "pitch": _degrees(f"{PITCH} Negative: lowers it."),
                "roll": _degrees(f"{ROLL} Negative: counter-clockwise."),
                "x": number(0.5, -1.0, 2.0, 0.01, f"Where the point between the eyes is when the head looks at the viewer. 0 "
                                                  f"is the left edge of the picture, 1 the right edge. {placed}"),
                "y": number(0.4, -1.0, 2.0, 0.01, f"The same from the top edge, 0, to the bottom edge, 1. {placed}"),
                "size": number(0.5, 0.01, 4.0, 0.01, f"Height of the face as a part of the picture's height. {placed}"),
                "width": ("INT", {**WIDTH[1], "tooltip": f"{WIDTH[1]['tooltip']} {placed}"}),
                "height": ("INT", {**HEIGHT[1], "tooltip": f"{HEIGHT[1]['tooltip']} {placed}"}),
            },
            "optional": {"keypoints": ("KEYPOINTS", {"tooltip": "Keypoints whose heads are turned, in place of a new head."})},
        }

    def turn(self, yaw, pitch, roll, x=0.5, y=0.4, size=0.5, width=1024, height=1024, keypoints=None):
        if keypoints is None:
            return (head.turned_head(width, height, x, y, size, yaw, pitch, roll),)
        return (usable_keypoints(head.turn(usable_keypoints(keypoints), yaw, pitch, roll)),)


class InstantIDJoinKeypoints:
    DESCRIPTION = ("Puts the faces of several keypoints into one picture, as large as that of the first ones. Their order is "
                   "the order of the people in InstantID Place Person.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "combine keypoints", "several faces", "two people"]
    RETURN_TYPES = ("KEYPOINTS",)
    RETURN_NAMES = ("keypoints",)
    OUTPUT_TOOLTIPS = (MADE,)
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"first": GIVEN, "second": GIVEN},
                "optional": {name: ("KEYPOINTS", {"tooltip": "Keypoints of further faces."}) for name in ("third", "fourth")}}

    def join(self, first, second, third=None, fourth=None):
        return (place.joined([usable_keypoints(part) for part in (first, second, third, fourth) if part is not None]),)


class InstantIDDrawKeypoints:
    DESCRIPTION = ("Draws keypoints as the coloured points that IdentityNet reads. Connect the picture to `image_kps` of an "
                   "Apply node.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "draw keypoints", "image_kps"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The drawn points on black.",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "keypoints": GIVEN,
            "opacity": number(1.0, 0.0, 1.0, 0.01, "Darkens all points. At 1 they are as IdentityNet was trained to read "
                                                   "them."),
        }}

    def draw(self, keypoints, opacity=1.0):
        return (drawing(usable_keypoints(keypoints), opacity),)


class InstantIDRandomPose:
    DESCRIPTION = ("Places a head at random within the ranges given: another pose for every seed, and always the same pose for "
                   "the same seed.")
    CATEGORY = "InstantID/advanced"
    SEARCH_ALIASES = [*ALIASES, "random pose", "vary pose", "pose variation"]
    RETURN_TYPES = ("KEYPOINTS",)
    RETURN_NAMES = ("keypoints",)
    OUTPUT_TOOLTIPS = (MADE,)
    FUNCTION = "place_at_random"

    @classmethod
    def INPUT_TYPES(cls):
        def both(name, low, high, make, text):
            return {f"{name}_from": make(f"{text} At least.", default=low),
                    f"{name}_to": make(f"{text} At most.", default=high)}

        def part(text, default):
            return number(default, -1.0, 4.0, 0.01, text)

        return {"required": {
            "seed": ("INT", {"default": 0, "min": 0, "max": 2 ** 53, "control_after_generate": True,
                             "tooltip": "Chooses the pose. The same seed gives the same pose."}),
            **both("yaw", -35.0, 35.0, _degrees, YAW), **both("pitch", -15.0, 15.0, _degrees, PITCH),
            **both("roll", -15.0, 15.0, _degrees, ROLL),
            **both("x", 0.4, 0.6, part, "Place of the head from the left edge, 0, to the right edge, 1."),
            **both("y", 0.35, 0.45, part, "Place of the head from the top edge, 0, to the bottom edge, 1."),
            **both("size", 0.3, 0.5, part, "Height of the face as a part of the picture's height."),
            "width": WIDTH, "height": HEIGHT,
        }}

    def place_at_random(self, seed, width, height, **limits):
        ranges = {name: (limits[f"{name}_from"], limits[f"{name}_to"]) for name in ("x", "y", "size", "yaw", "pitch", "roll")}
        return (head.random_pose(seed, width, height, ranges),)


class InstantIDEditKeypoints:
    DESCRIPTION = ("Edits keypoints with the mouse or the keyboard: drag a point, move a whole face, scale and turn it with "
                   "its handles, add and remove faces. A connected picture lies behind. What you set here replaces connected "
                   "keypoints until you press Reset.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = [*ALIASES, "keypoint editor", "edit pose", "drag points"]
    RETURN_TYPES = ("KEYPOINTS", "IMAGE", "STRING")
    RETURN_NAMES = ("keypoints", "drawing", "json")
    OUTPUT_TOOLTIPS = (MADE, "The drawn points on black, for `image_kps` of an Apply node.", "The keypoints as a text.")
    FUNCTION = "edit"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "width": WIDTH, "height": HEIGHT,
                "state": ("STRING", {"default": "", "tooltip": (
                    "What was edited, as JSON. Empty: the connected keypoints, or a head that looks at the viewer.")}),
            },
            "optional": {
                "keypoints": ("KEYPOINTS", {"tooltip": "Keypoints to begin with. They are scaled to width and height."}),
                "background": ("IMAGE", {"tooltip": "A picture to see behind the points while editing. It changes nothing."}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, state=None):
        """Returns True, or the reason to refuse a prompt. state is None where the widget is a link."""
        try:
            return not state or not state.strip() or bool(from_json(state))
        except InstantIDError as error:
            return str(error)

    def edit(self, width, height, state="", keypoints=None, background=None):
        start = (head.frontal_head(width, height) if keypoints is None
                 else place.resized(usable_keypoints(keypoints), width, height))
        edited = place.resized(from_json(state), width, height) if state.strip() else start
        shown = {"instantid_begun_with": [to_json(start)]}
        if background is not None:
            from nodes import PreviewImage
            check_photos(background)
            picture = background[:1, ..., :3].expand(-1, -1, -1, 3).to(torch.float32)  # without alpha; grey in three channels
            shown["instantid_background"] = PreviewImage().save_images(picture)["ui"]["images"]
        return {"ui": shown, "result": (edited, drawing(edited), to_json(edited))}


PATH = "/instantid_swift/keypoints"


def edited_state(request):
    """Returns the text of the keypoints that the editor in the browser asks for. InstantIDError where they cannot be turned.

    request: {"state": text, "face": number, "yaw", "pitch", "roll": degrees} for the state with one face turned further; or
    {"width", "height": pixels} for a head that looks at the viewer.
    """
    if "state" not in request:
        return to_json(head.frontal_head(int(request["width"]), int(request["height"])))
    keypoints, number = from_json(request["state"]), int(request["face"])
    turned = head.turn(keypoints._replace(faces=(keypoints.faces[number],)), request["yaw"], request["pitch"], request["roll"])
    faces = list(keypoints.faces)
    faces[number], = turned.faces
    return to_json(usable_keypoints(keypoints._replace(faces=tuple(faces))))


async def _answer(request):
    from aiohttp import web
    try:
        return web.json_response({"state": edited_state(await request.json())})
    except ValueError as error:  # InstantIDError is one, and so is malformed JSON
        return web.json_response({"error": str(error)}, status=400)


def add_route():
    """Adds the editor's route to ComfyUI's server. To be called while the pack is imported."""
    server.add_route("post", PATH, _answer)


NODES = {
    InstantIDKeypoints: "InstantID Find Keypoints",
    InstantIDKeypointsFromPose: "InstantID Keypoints from Pose",
    InstantIDPlaceKeypoints: "InstantID Place Keypoints",
    InstantIDTurnHead: "InstantID Turn Head",
    InstantIDJoinKeypoints: "InstantID Join Keypoints",
    InstantIDDrawKeypoints: "InstantID Draw Keypoints",
    InstantIDRandomPose: "InstantID Random Pose",
    InstantIDEditKeypoints: "InstantID Edit Keypoints",
}
