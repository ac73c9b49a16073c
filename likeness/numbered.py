"""Every face of a picture, drawn with its number, and the place of the one that is meant."""

import torch

from .report import as_image

CHOSEN, OTHER = "#50DC50", "#3CAAFF"


def in_order(found, choice, size):
    """A picture's faces in the order in which face_index counts them. found: `faces.Face`s. size: (width, height)."""
    return [choice._replace(index=index).of(found, size) for index in range(len(found))]


def numbered(image, listed, chosen):
    """A picture with a box around each face, its number, size in pixels and certainty: IMAGE [1, h, w, 3].

    image: one picture of a batch, float [h, w, c]. listed: its faces in order. chosen: the number of the one that is meant.
    """
    from PIL import Image, ImageDraw, ImageFont

    from ..utils import image_to_bgr
    picture = Image.fromarray(image_to_bgr(image)[:, :, ::-1].copy())
    pen, unit = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 600))
    font = ImageFont.load_default(14 * unit)
    for number, face in reversed(list(enumerate(listed))):  # the first ones lie above the others
        left, top, right, bottom = map(float, face.box)
        colour = CHOSEN if number == chosen else OTHER
        pen.rectangle((left, top, right, bottom), outline=colour, width=(3 if number == chosen else 2) * unit)
        text = f"{number}: {right - left:.0f}x{bottom - top:.0f}, {face.score:.2f}"
        box = pen.textbbox((left, bottom), text, font)
        pen.rectangle(box, fill=colour)
        pen.text((left, bottom), text, "black", font)
    return as_image(picture)


def bounding_box(face, size, padding=0):
    """A face's box grown by padding pixels and cut at the picture's edges: ComfyUI's BOUNDING_BOX."""
    left, top = (max(0, int(value) - padding) for value in face.box[:2])
    right, bottom = (min(most, -int(-value // 1) + padding) for value, most in zip(face.box[2:].tolist(), size, strict=True))
    return {"x": left, "y": top, "width": max(1, right - left), "height": max(1, bottom - top)}


def mask_of(box, size):
    """The area of a BOUNDING_BOX: MASK [h, w], 1 inside. box: None for an empty mask. size: (width, height)."""
    mask = torch.zeros(size[1], size[0])
    if box is not None:
        mask[box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]] = 1
    return mask
