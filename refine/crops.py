"""Square crops around faces: where they lie, what is painted in them, how they are pasted back."""

from typing import NamedTuple

import torch

from ..keypoints import KeypointFace, Keypoints
from .assign import PlacedFace


class Crop(NamedTuple):
    """A square inside of a picture around one face. Pixels of the picture; read-only."""
    left: int
    top: int
    side: int
    face: PlacedFace

    def cut(self, images):
        """Returns the square of the face's picture in an IMAGE [n, h, w, c] or a MASK [n, h, w], as a view [1, ...]."""
        picture = images[self.face.picture:self.face.picture + 1]
        return picture[:, self.top:self.top + self.side, self.left:self.left + self.side]

    def keypoints(self, side):
        """Returns the `Keypoints` of the face in the crop, brought to another side."""
        points, opacities = self.face.keypoints
        return Keypoints(side, side, (KeypointFace((points - [self.left, self.top]) * (side / self.side), opacities),))

    @property
    def is_hidden(self):
        """Whether other faces leave nothing to paint, as where two are at the same place."""
        return not (self.depth(64) > 0).any()

    def depth(self, side):
        """Returns how deep each pixel lies in the part that is painted, in sides of the crop: float32 [side, side].

        0 and less is outside. The part is a square around the face's middle, half-way between box and crop. It ends where
        another face is nearer, in sizes of the faces: parts of different faces never meet.

        side: pixels of the crop, to which it may have been brought.
        """
        places = (torch.arange(side, dtype=torch.float64) + 0.5) * (self.side / side)
        own_x, own_y, own = _distances(self.face.box, self.left + places, self.top + places)
        extent = longer_side(self.face.box)
        depth = (min(extent, self.side) + self.side) / 4 - torch.maximum(own_x, own_y)
        for box in self.face.others:
            *_, other = _distances(box, self.left + places, self.top + places)
            depth = torch.minimum(depth, (other - own) * extent / 2)
        return (depth / self.side).float()

    def mask(self, feather):
        """Returns the mask under which the crop is pasted: float32 [side, side], 0 to 1.

        feather: width of its soft edge, as a part of the crop's side.
        """
        depth = self.depth(self.side)
        return (depth / feather).clamp(0, 1) if feather else (depth > 0).float()


def _distances(box, x, y):
    """Returns distances from a box's middle, for columns x and rows y: across [1, x], down [y, 1], and the larger of both
    [y, x] in sizes of the box."""
    left, top, right, bottom = box
    across, down = (x - (left + right) / 2).abs()[None], (y - (top + bottom) / 2).abs()[:, None]
    return across, down, torch.maximum(across / (right - left), down / (bottom - top))


def longer_side(box):
    """Returns the longer side of a box (left, top, right, bottom)."""
    return max(box[2] - box[0], box[3] - box[1])


def crop_of(face, size, padding):
    """Returns the Crop of a PlacedFace. It is moved into the picture, and no larger than that.

    size: (width, height) of the picture. padding: the crop's side over the box's longer one.
    """
    side = min(max(round(longer_side(face.box) * padding), 1), *size)
    corner = (min(max(round((low + high - side) / 2), 0), most - side)
              for low, high, most in zip(face.box[:2], face.box[2:], size, strict=True))
    return Crop(*corner, side, face)


def paste(images, crop, painted, mask):
    """Writes a painted crop into an IMAGE [n, h, w, c] of 1, 3 or 4 channels. What the mask leaves out keeps its bits, and so
    does alpha. NaN is black where the mask is soft.

    painted: [1, side, side, 3]. mask: [side, side].
    """
    if images.shape[-1] == 1:
        painted = painted.mean(dim=-1, keepdim=True)
    square, mask = crop.cut(images)[..., :3], mask.to(images.device)[None, :, :, None]
    blended = mask * painted.to(images.device) + (1 - mask) * square.nan_to_num(0.0)
    square.copy_(torch.where(mask > 0, blended.to(square.dtype), square))
