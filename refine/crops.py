"""Square crops around faces: where they lie, what is painted in them, how they are pasted back."""

from typing import NamedTuple

import torch

from ..keypoints import KeypointFace


class Crop(NamedTuple):
    """A square inside of a picture around one face. Pixels of the picture; read-only."""
    left: int
    top: int
    side: int
    box: tuple          # left, top, right, bottom of the face
    others: tuple = ()  # boxes of the other faces in the picture

    def cut(self, image):
        """Returns the square of an IMAGE [n, h, w, c], as a view."""
        return image[:, self.top:self.top + self.side, self.left:self.left + self.side]

    def keypoints(self, face, side):
        """Returns the points of a KeypointFace of the picture, in pixels of the crop brought to another side."""
        return KeypointFace((face.points - [self.left, self.top]) * (side / self.side), face.opacities)

    def depth(self, side):
        """Returns how deep each pixel lies in the part that is painted, in sides of the crop: float32 [side, side].

        0 and less is outside. The part is a square around the face's middle, half-way between box and crop. It ends where
        another face is nearer, in sizes of the faces: parts of different faces never meet.

        side: pixels of the crop, to which it may have been brought.
        """
        places = (torch.arange(side, dtype=torch.float64) + 0.5) * (self.side / side)
        own_x, own_y, own = _distances(self.box, self.left + places, self.top + places)
        extent = max(self.box[2] - self.box[0], self.box[3] - self.box[1])
        depth = (min(extent, self.side) + self.side) / 4 - torch.maximum(own_x, own_y)
        for box in self.others:
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


def crop_of(face, faces, size, padding):
    """Returns the Crop of one face. It is moved into the picture, and no larger than that.

    face: PlacedFace. faces: all of its picture. size: (width, height). padding: the crop's side over the box's longer one.
    """
    left, top, right, bottom = face.box
    side = min(max(round(max(right - left, bottom - top) * padding), 1), *size)
    corner = (min(max(round((low + high - side) / 2), 0), most - side)
              for low, high, most in zip(face.box[:2], face.box[2:], size, strict=True))
    return Crop(*corner, side, face.box, tuple(other.box for other in faces if other is not face))


def paste(image, crop, painted, mask):
    """Writes a painted crop into an IMAGE [1, h, w, c] of 1, 3 or 4 channels. What the mask leaves out keeps its bits, and so
    does alpha.

    painted: [1, side, side, 3]. mask: [side, side].
    """
    if image.shape[-1] == 1:
        painted = painted.mean(dim=-1, keepdim=True)
    square, mask = crop.cut(image)[..., :3], mask.to(image.device)[None, :, :, None]
    blended = mask * painted.to(image.device) + (1 - mask) * square
    square.copy_(torch.where(mask > 0, blended.to(square.dtype), square))
