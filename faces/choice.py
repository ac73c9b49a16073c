"""Which of a picture's faces is meant: an order, and a place in it."""

from typing import NamedTuple

import numpy as np


class FaceIndexError(Exception):
    """A picture has fewer faces than were counted on; the message says how many."""
    __module__ = "InstantID"  # what the editor shows before the name


class Face(NamedTuple):
    """One detected face. Arrays are read-only."""
    box: np.ndarray     # float32 [4]: left, top, right, bottom, in pixels
    score: float        # the detector's certainty, 0..1
    points: np.ndarray  # float32 [5, 2]: left eye, right eye, nose, left and right corner of the mouth
    size: int           # width of the frame into which the picture was shrunk for the detector

    @property
    def area(self):
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def centre(self):
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2


# order: what is least for its first face, of (face, width and height of its picture)
_RANKS = {
    "largest": lambda face, size: -face.area,
    "left to right": lambda face, size: face.centre[0],
    "right to left": lambda face, size: -face.centre[0],
    "top to bottom": lambda face, size: face.centre[1],
    "most central": lambda face, size: (face.centre[0] - size[0] / 2) ** 2 + (face.centre[1] - size[1] / 2) ** 2,
    "most certain": lambda face, size: -face.score,
}
ORDERS = list(_RANKS)


class FaceChoice(NamedTuple):
    """The face at `index` (0 is the first) of a picture's faces in an order, one of ORDERS."""
    order: str = "largest"
    index: int = 0

    def of(self, faces, size, picture=0):
        """The face that is meant. Of equals the more certain comes first.

        faces: at least one `Face`, most certain first. size: (width, height) of the picture. picture: its index, for the
        message. FaceIndexError if there are too few faces.
        """
        if not 0 <= self.index < len(faces):
            known = "only face 0" if len(faces) == 1 else f"faces 0 to {len(faces) - 1}"
            raise FaceIndexError(f"There is no face {self.index} in the image at index {picture}: it shows {len(faces)} "
                                 f"face{'s' * (len(faces) != 1)}, so there {'is' if len(faces) == 1 else 'are'} {known}.")
        return sorted(faces, key=lambda face: _RANKS[self.order](face, size))[self.index]


LARGEST = FaceChoice()
