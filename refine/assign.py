"""Faces of pictures and who they are: found or given, compared with people, assigned to them."""

from typing import NamedTuple

import numpy as np

from ..keypoints.head import face_box
from ..keypoints.keypoints import KeypointFace, resized
from ..likeness.measure import ANOTHER, cosine, embeddings_of, reference_of
from ..people.person import embedder_name
from ..utils import InstantIDError

BY_LIKENESS, LEFT_TO_RIGHT, EVERYBODY = WHO = ["by likeness", "left to right", "everybody is the first person"]


class PlacedFace(NamedTuple):
    """One face of a batch of pictures, and whose it is to be. Read-only."""
    picture: int             # index in the batch
    number: int              # from left to right in its picture, from 0
    box: tuple               # left, top, right, bottom in pixels, cut at the picture's edges
    keypoints: KeypointFace  # in pixels of the picture
    others: tuple = ()       # boxes of the other faces of its picture
    cosines: tuple = ()      # of the face with each person, -1 to 1
    person: object = None    # index of its person; None for nobody

    @property
    def before(self):
        """The cosine with the face's person; for nobody's face the largest of all."""
        return max(self.cosines) if self.person is None else self.cosines[self.person]

    @property
    def size(self):
        """Shorter side of the box in pixels."""
        return round(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    def is_to_be_painted(self, leave_above):
        """Returns whether the face has a person and is less like it than leave_above; 0 leaves all faces alone, 1 none."""
        return self.person is not None and (leave_above >= 1 or max(self.before, 0.0) < leave_above)


def place_faces(photos, keypoints=None):
    """Returns the faces of `faces.Photos`: a list of PlacedFace for each picture, from left to right.

    keypoints: `Keypoints` of the faces in every picture, in place of those that the detector finds. InstantIDError if one
    lies outside of the picture.
    """
    if keypoints is None:
        return [_from_left_to_right(picture, [(face.box, KeypointFace(face.points)) for face in faces], photos.size)
                for picture, faces in enumerate(photos.found)]
    faces = [(face_box(face.points), face) for face in resized(keypoints, *photos.size).faces]
    placed = [_from_left_to_right(picture, faces, photos.size) for picture in range(len(photos.images))]
    if len(placed[0]) < len(faces):
        raise InstantIDError("A face of the keypoints lies outside of the picture of "
                             f"{photos.size[0]}x{photos.size[1]} pixels, or is smaller than a pixel. Move it into the picture.")
    return placed


def _from_left_to_right(picture, faces, size):
    """Returns the PlacedFace objects of one picture, but for those of which it shows less than a pixel.

    faces: pairs of box and KeypointFace. size: (width, height).
    """
    cut = [(tuple(np.clip(box, 0, (*size, *size)).tolist()), keypoints) for box, keypoints in faces]
    shown = [(box, keypoints) for box, keypoints in cut if box[2] - box[0] >= 1 and box[3] - box[1] >= 1]
    shown.sort(key=lambda one: one[0][0] + one[0][2])
    boxes = [box for box, _ in shown]
    return [PlacedFace(picture, number, box, keypoints, tuple(boxes[:number] + boxes[number + 1:]))
            for number, (box, keypoints) in enumerate(shown)]


def directions_of(people, photos):
    """Returns the direction of each Person's embeddings, float64 [512]. InstantIDError if they come from another network than
    that of the `faces.Photos`."""
    embedder = embedder_name(photos.recognition)
    return [reference_of(embeddings_of(person, embedder)).direction for person in people]


def assign_people(faces, photos, directions, who):
    """Returns the faces of one picture with their cosines and people.

    faces: PlacedFace objects, from left to right. directions: of each person. who: one of WHO.
    """
    compared = []
    for face in faces:
        embedding = photos.embed(face.picture, face.keypoints)
        compared.append(face._replace(cosines=tuple(cosine(embedding, direction) for direction in directions)))
    people = assignment([face.cosines for face in compared], who)
    return [face._replace(person=person) for face, person in zip(compared, people, strict=True)]


def assignment(cosines, who):
    """Returns the index of each face's person, or None. cosines: [faces, people], faces from left to right.

    By likeness, pairs that are not similar count for nothing: neither are they assigned, nor does one take another's person.
    """
    if who == EVERYBODY:
        return [0] * len(cosines)
    if who == LEFT_TO_RIGHT:
        return [number if number < len(each) else None for number, each in enumerate(cosines)]
    from scipy.optimize import linear_sum_assignment
    similar = np.array(cosines, ndmin=2)  # of no face, too
    similar[similar < ANOTHER] = 0
    chosen = [None] * len(cosines)
    for face, person in zip(*linear_sum_assignment(similar, maximize=True), strict=True):
        if similar[face, person]:
            chosen[face] = int(person)
    return chosen
