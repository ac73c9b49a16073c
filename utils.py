"""Pictures: ComfyUI's IMAGE tensors, OpenCV's arrays, the drawing of keypoints that IdentityNet was trained on. And what the
pack says of inputs and files that cannot be used.
"""

import math
import os

import einops
import numpy as np
import torch

# RGB of left eye, right eye, nose, left and right corner of the mouth: what IdentityNet was trained on
KEYPOINT_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
ALL_VISIBLE = (1.0,) * len(KEYPOINT_COLOURS)  # opacities
NOSE = 2
STICK_HALF_WIDTH = 4
STICK_DIMMING = 0.6
POINT_RADIUS = 10
MOST_HDR = 100  # largest value of an HDR picture; a picture with greater ones goes to 255 and was not divided by it


class InstantIDError(ValueError):
    """An input that cannot be used; the message says what was found and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


def what_is_wrong(path):
    """Returns a sentence about a model's file that cannot be opened: what it is, and what to do."""
    with open(path, "rb") as file:
        beginning = file.read(64).lstrip().lower()
    if beginning.startswith((b"<!doctype", b"<html")):
        return "It is a web page that was saved in place of the model: use the page's download button."
    if beginning.startswith(b"version https://git-lfs"):
        return "It is a Git LFS pointer, a note about the model and not the model itself: download that from its page."
    return f"It is damaged or was not downloaded completely ({os.path.getsize(path):,} bytes): download it again."


def as_floating_point(tensor):
    """Returns a tensor of 16, 32 or 64 bit floating-point numbers as it is, any other numbers as float32."""
    return tensor if tensor.is_floating_point() and tensor.itemsize > 1 else tensor.to(torch.float32)


def check_photos(images):
    """Refuses what is not an IMAGE batch [n, h, w, 1, 3 or 4 channels] of at least one picture."""
    if isinstance(images, list | tuple):
        raise InstantIDError(f"An image must be a batch of pictures, this one is a Python list of {len(images)}. Join the "
                             "pictures with Batch Images and connect the batch. Photos of different sizes can be connected to "
                             "InstantID Person from Photos, which takes a list.")
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not images.numel():
        raise InstantIDError("An image must be [pictures, height, width, 1, 3 or 4 channels] and hold one picture at least, "
                             f"this one is {list(images.shape)}.")


def usable_hint(images):
    """Returns drawn keypoints as IdentityNet reads them: IMAGE [n, h, w, 3]. A usable image is returned unchanged.

    Grey (c = 1) is spread over three channels, alpha (c = 4) is dropped.
    """
    check_photos(images)
    images = images if images.is_floating_point() else images.to(torch.float32)
    return images if images.shape[3] == 3 else images[..., :3].expand(*images.shape[:3], 3)


def image_to_bgr(image):
    """Returns one picture of an IMAGE batch as OpenCV's array: uint8 [h, w, 3], BGR, contiguous.

    image: [h, w, c] in 0..1, RGB; grey (c = 1) is spread over the three channels, alpha (c = 4) is dropped. Values outside
    0..1 are clamped, fractions cut off, NaN is black. Levels of 0..255 that were divided in 16 bits are exact in 16 bits only.
    """
    import cv2
    rgb = as_floating_point(image.detach()).to("cpu")[:, :, :3] * 255
    pixels = rgb.nan_to_num_(nan=0.0).clamp_(0, 255).to(torch.uint8).numpy()
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR)


def draw_keypoints(height, width, points):
    """Draws five facial points the way IdentityNet reads them: dimmed sticks to the nose, bright dots on top.

    points: [5, 2], x and y in pixels, in the order of KEYPOINT_COLOURS. Returns uint8 [height, width, 3], RGB.
    """
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    paint_keypoints(canvas, points)
    return canvas


def paint_keypoints(canvas, points, opacities=ALL_VISIBLE):
    """Draws five facial points, as `draw_keypoints` does, onto a canvas that may hold other faces.

    canvas: uint8 [height, width, 3], RGB, which is changed. opacities: five numbers, 0 to 1; colours are darker by them, a
    stick's by those of both its ends. A point of opacity 0 is left out.
    """
    import cv2
    points = np.asarray(points, dtype=np.float64)
    nose = points[NOSE]
    for index, colour in enumerate(KEYPOINT_COLOURS):
        opacity = opacities[index] * opacities[NOSE]
        if index == NOSE or not opacity:
            continue
        dx, dy = points[index] - nose
        middle = (points[index] + nose) / 2
        stick = cv2.ellipse2Poly((int(middle[0]), int(middle[1])), (int(math.hypot(dx, dy) / 2), STICK_HALF_WIDTH),
                                 int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
        cv2.fillConvexPoly(canvas, stick, [int(value * STICK_DIMMING * opacity) for value in colour])
    for point, colour, opacity in zip(points, KEYPOINT_COLOURS, opacities, strict=True):
        if opacity:
            cv2.circle(canvas, (int(point[0]), int(point[1])), POINT_RADIUS, [int(value * opacity) for value in colour], -1)


def is_keypoint_drawing(images):
    """Returns whether all pictures are drawings of keypoints: black, and pixels of the five colours, which may be dimmed.

    images: IMAGE [n, h, w, 3]. A photo has other colours; a black picture counts as a drawing without points.
    """
    if images.shape[-1] != 3:
        return False
    for pixels in (images[:, ::16, ::16], images):  # a few pixels are enough for a photo
        strength = pixels.amax(dim=-1)
        pure = ((pixels == 0) | (pixels == strength[..., None])).all(dim=-1)
        red, green, blue = pixels.unbind(-1)
        other = (green > 0) & (blue > 0)  # cyan, grey and white are none of the colours
        if not bool((pure & ~other & (red >= 0)).all()):
            return False
    return True


def pictures_to_image(pictures):
    """Returns uint8 RGB arrays [h, w, 3] of one size as an IMAGE: float32 [n, h, w, 3] in 0..1.

    Its memory is planar: [n, 3, h, w], viewed as [n, h, w, 3]. The original's drawings have this layout, and convolutions
    round differently on interleaved memory.
    """
    planes = np.ascontiguousarray(einops.rearrange(pictures, "n h w c -> n c h w"))
    return einops.rearrange(torch.from_numpy(planes).to(torch.float32).div_(255), "n c h w -> n h w c")
