"""The places of people in a picture: the drawing that IdentityNet reads, and a mask for each person."""

from typing import NamedTuple

import torch

from ..identity import usable_mask
from ..keypoints import MOST_SIDE, KeypointFace, Keypoints, drawing
from ..keypoints.place import box_of_mask, resized
from ..utils import KEYPOINT_COLOURS, NOSE, InstantIDError

MOST_PHOTO_SIDE = 8192       # pixels of a drawing of one photo; photos of cameras are smaller
SMALLEST_SIDE = 512          # pixels of a drawing: the dots have one size, whatever the picture's
FACE_PART = 0.25             # extent of the five points, as a part of the shorter side of the person's area
FACE_CENTRE = (0.5, 0.4)     # middle of the five points, as parts of that area's width and height


class Settings(NamedTuple):
    """The strengths, the window and the mask of one person."""
    ip_weight: float = 0.8
    cn_strength: float = 0.8
    start_at: float = 0.0       # parts of the sampling, 0 to 1
    end_at: float = 1.0
    mask: object = None         # MASK, or None for the whole picture


class PersonInPicture(NamedTuple):
    """One person with settings and keypoints for one picture. Read-only."""
    person: object              # Person
    settings: Settings = Settings()
    keypoints: object = None    # Keypoints, of which the first face is this person's

    @property
    def face(self):
        """The first KeypointFace of the keypoints; None without keypoints."""
        return None if self.keypoints is None else self.keypoints.faces[0]


def hint_of_person(one, image_kps=None):
    """Returns the drawing of one person's face, IMAGE [1, h, w, 3]: image_kps if it is given, else of the PersonInPicture's
    keypoints, else of the first photo, at its size."""
    if image_kps is not None:
        return image_kps
    if one.keypoints is not None:
        return drawing(one.keypoints._replace(faces=one.keypoints.faces[:1]))
    width, height = one.person.sizes[0].tolist()
    return drawing(Keypoints(width, height, (KeypointFace(one.person.points[0].numpy()),)), most_side=MOST_PHOTO_SIDE)


def place_people(people, width, height, image_kps=None):
    """Returns (drawing IMAGE [n, h, w, 3], list of MASK or None for each person) of several people in one picture.

    people: PersonInPicture objects. width, height: of the drawing, where neither keypoints nor masks have a size. image_kps: a
    drawing, which is used as it is. Where nobody has a mask, the picture is divided among all from left to right.
    """
    keypoints = None if image_kps is not None else keypoints_of(people, *_size(people, width, height))
    masks = [one.settings.mask for one in people]
    if all(mask is None for mask in masks):
        masks = strips(*_centres(people, keypoints, image_kps))
    return drawing(keypoints) if image_kps is None else image_kps, masks


def _size(people, width, height):
    """Returns width and height of the picture that is drawn, each at most MOST_SIDE."""
    keypoint_sizes = [(one.keypoints.width, one.keypoints.height) for one in people if one.face is not None]
    mask_sizes = [tuple(usable_mask(mask).shape[:0:-1]) for one in people if (mask := one.settings.mask) is not None]
    least = 1
    if keypoint_sizes:
        width, height = keypoint_sizes[0]
    elif mask_sizes:
        width, height = mask_sizes[0]
        least = SMALLEST_SIDE
        times = max(-(-SMALLEST_SIDE // min(width, height)), 1)
        width, height = width * times, height * times
    shrunk = min(MOST_SIDE / max(width, height), 1)
    return max(round(width * shrunk), least), max(round(height * shrunk), least)


def keypoints_of(people, width, height):
    """Returns `Keypoints` of all people's faces in one picture, in the order of the people.

    A person's own keypoints are scaled to the picture. Otherwise the face of the first photo is put into the middle of the
    person's mask, or of the person's part where the picture is divided evenly from left to right.
    """
    faces = []
    for number, one in enumerate(people):
        if one.face is not None:
            faces.append(resized(one.keypoints, width, height).faces[0])
        else:
            part = (number * width / len(people), 0.0, (number + 1) * width / len(people), float(height))
            mask = one.settings.mask
            box = part if mask is None else box_of_mask(usable_mask(mask), width, height) or part
            faces.append(KeypointFace(face_in_box(one.person.points[0], box).numpy()))
    return Keypoints(width, height, tuple(faces))


def face_in_box(points, box):
    """Returns five points, moved and scaled to where a face looks natural in a box (left, top, right, bottom)."""
    points = points.double()
    low, high = points.amin(dim=0), points.amax(dim=0)
    left, top, right, bottom = box
    scale = FACE_PART * min(right - left, bottom - top) / max(float((high - low).max()), 1.0)
    centre = torch.tensor([left + FACE_CENTRE[0] * (right - left), top + FACE_CENTRE[1] * (bottom - top)], dtype=torch.float64)
    return (points - (low + high) / 2) * scale + centre


def _centres(people, keypoints, image_kps):
    """Returns (x of each person's face, width of the picture, its height)."""
    if keypoints is not None:
        return [float(face.points[:, 0].mean()) for face in keypoints.faces], keypoints.width, keypoints.height
    height, width = image_kps.shape[1:3]
    noses = noses_in(image_kps[0])
    if len(noses) != len(people):
        noses = [(number + 0.5) * width / len(people) for number in range(len(people))]
    return noses, width, height


def noses_in(image):
    """Returns the x of the noses in a drawing of keypoints [h, w, 3], in pixels, from left to right."""
    import cv2
    colour = torch.tensor(KEYPOINT_COLOURS[NOSE]) / 255
    dots = (image[:, :, :3].cpu().float() == colour).all(dim=2).to(torch.uint8).numpy()
    return sorted(float(x) for x, _ in cv2.connectedComponentsWithStats(dots)[3][1:])


def strips(centres, width, height):
    """Returns masks [1, height, width] that divide a picture from left to right among people: each is 1 where the person's
    centre is the nearest. centres: for each person an x in pixels."""
    order = sorted(range(len(centres)), key=lambda number: centres[number])
    borders = [0, *(round((centres[a] + centres[b]) / 2) for a, b in zip(order, order[1:], strict=False)), width]
    masks = [torch.zeros(1, height, width) for _ in centres]
    for number, left, right in zip(order, borders, borders[1:], strict=False):
        masks[number][:, :, left:right] = 1
        if right <= left:
            raise InstantIDError("The faces of two people are at the same place, so the picture cannot be divided between "
                                 "them. Move the keypoints apart, or connect a mask to each InstantID Place Person.")
    return masks
