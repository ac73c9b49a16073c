"""Nodes for the demo and the server tests only: loaders of the miniature SDXL, and a picture of the detected faces.

ComfyUI loads this folder as a pack of its own, beside the real one.
"""
import importlib.util
import os
import sys
from pathlib import Path

import nodes
from aiohttp import web
from server import PromptServer

# serving/server.py names the checkout: where links are not possible, this file is a copy outside of it
DEV = Path(os.environ.get("INSTANTID_CHECKOUT") or Path(__file__).resolve().parents[2]) / "dev"


def _miniature():
    name = "instantid_demo_miniature"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DEV / "serving" / "miniature.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class DemoCheckpoint:
    """Takes the place of Load Checkpoint."""

    CATEGORY = "InstantID/demo"
    DESCRIPTION = "A miniature SDXL with random weights. Its pictures are noise."
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        import comfy.model_management
        model = _miniature().fixtures().mini_sdxl(device=comfy.model_management.get_torch_device())
        return model, _miniature().Clip(), _miniature().Vae()


class DemoControlNet:
    """Takes the place of Load ControlNet Model."""

    CATEGORY = "InstantID/demo"
    DESCRIPTION = "The IdentityNet of the miniature SDXL, random weights."
    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        import comfy.model_management
        return (_miniature().fixtures().mini_identity_net(device=comfy.model_management.get_torch_device()),)


class DemoPose:
    """Takes the place of a node that finds poses."""

    CATEGORY = "InstantID/demo"
    DESCRIPTION = "One person with a face that looks at the viewer, as OpenPose's JSON."
    RETURN_TYPES = ("POSE_KEYPOINT",)
    FUNCTION = "find"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def find(self):
        head = {0: (104, 70), 14: (94, 60), 15: (114, 60)}  # nose and eyes
        body = {**head, 1: (104, 100), 2: (84, 102), 5: (124, 102), 8: (92, 170), 11: (116, 170)}
        points = [number for joint in range(18) for number in (*body.get(joint, (0, 0)), float(joint in body))]
        return ([{"canvas_width": 208, "canvas_height": 304,
                  "people": [{"pose_keypoints_2d": points, "foot_keypoints_2d": [0.0] * 18, "face_keypoints_2d": [0.0] * 210,
                              "hand_right_keypoints_2d": [0.0] * 63, "hand_left_keypoints_2d": [0.0] * 63}]}],)


class DemoNumberFaces:
    """Shows what the face detector finds."""

    CATEGORY = "InstantID/demo"
    DESCRIPTION = "Boxes and numbers the faces of an image, largest first. InstantID uses face 0."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"faceanalysis": ("FACEANALYSIS",), "image": ("IMAGE",)}}

    def draw(self, faceanalysis, image):
        import cv2
        import numpy as np
        import torch
        picture = np.ascontiguousarray((image[0].cpu().numpy() * 255).clip(0, 255).astype(np.uint8)[..., ::-1])
        boxes = [face.bbox for face in faceanalysis.get(picture)]
        boxes.sort(key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
        unit = max(1, round(max(picture.shape[:2]) / 600))
        for number, (left, top, right, bottom) in enumerate(map(int, box) for box in boxes):
            colour = (80, 220, 80) if number == 0 else (60, 170, 255)
            cv2.rectangle(picture, (left, top), (right, bottom), colour, unit)
            (width, height), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit, unit)
            cv2.rectangle(picture, (left, top), (left + width + 4 * unit, top + height + 4 * unit), colour, -1)
            cv2.putText(picture, str(number), (left + 2 * unit, top + height + 2 * unit), cv2.FONT_HERSHEY_SIMPLEX,
                        0.5 * unit, (0, 0, 0), unit, cv2.LINE_AA)
        drawn = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).float()[None] / 255
        return {"ui": {"faces": [len(boxes)]}, "result": (drawn,)}


@PromptServer.instance.routes.get("/instantid_swift/caches")
async def caches(request):
    """What the pack keeps: its caches.statistics(), found through a class that the pack registered."""
    package = nodes.NODE_CLASS_MAPPINGS["ApplyInstantID"].__module__.rpartition(".")[0]
    module = sys.modules.get(f"{package}.caches")
    return web.json_response(module.statistics() if hasattr(module, "statistics") else {})


NODE_CLASS_MAPPINGS = {"InstantIDDemoCheckpoint": DemoCheckpoint, "InstantIDDemoControlNet": DemoControlNet,
                       "InstantIDDemoPose": DemoPose, "InstantIDDemoNumberFaces": DemoNumberFaces}
NODE_DISPLAY_NAME_MAPPINGS = {"InstantIDDemoCheckpoint": "Demo: miniature SDXL",
                              "InstantIDDemoControlNet": "Demo: miniature IdentityNet",
                              "InstantIDDemoPose": "Demo: a pose",
                              "InstantIDDemoNumberFaces": "Demo: number the faces"}
