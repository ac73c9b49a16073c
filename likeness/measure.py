"""The likeness of pictures to a person: cosines of face embeddings, -1 to 1. Imports without ComfyUI.

The cosine of ArcFace embeddings is what research on identity measures, and what insightface's `compute_sim` returns.
"""

from typing import NamedTuple

import numpy as np
import torch

from .. import faces
from ..faces.analysis import find_embedder
from ..people.person import Person, check_same_embedder, embedder_name
from ..utils import InstantIDError

ANOTHER, SAME = 0.28, 0.5  # the limits between the bands of photographs
SMALL_FACE = 112           # pixels: smaller faces are enlarged for the embedder, and their numbers less certain


class SeenFace(NamedTuple):
    """The chosen face of one picture. Read-only."""
    embedding: torch.Tensor  # float32 [512], not normalised
    side: int                # shorter side of its box in pixels
    points: np.ndarray       # float32 [5, 2], pixels


class Reference(NamedTuple):
    """The person that pictures are compared with."""
    direction: np.ndarray  # float64 [512], of length 1: the mean of the photos' normalised embeddings
    photo_cosines: tuple   # cosine of each photo with the mean of the others; empty for a single photo


class Likeness(NamedTuple):
    """The measure of a batch of pictures."""
    values: tuple      # for each picture its cosine, None where it has no face that can be measured
    sides: tuple       # for each picture the shorter side of its face in pixels, None without a face
    reference: Reference
    embedder: str      # folder and file of the network
    second: tuple = ()  # cosines of a second embedder, as values
    second_embedder: str = ""
    second_photo_cosines: tuple = ()  # as `Reference.photo_cosines`, of the second embedder

    @property
    def order(self):
        """Indices of the pictures that have a number, best first; of equals the earlier one comes first."""
        return sorted((index for index, value in enumerate(self.values) if value is not None),
                      key=lambda index: -self.values[index])

    def best(self, count=0, minimum=-1.0):
        """Returns the indices of the best pictures, best first. count: their most, 0 for all. minimum: the least cosine."""
        kept = [index for index in self.order if self.values[index] >= minimum]
        return kept[:count] if count else kept


def unit(embeddings):
    """Returns embeddings [N, D] divided by their lengths: float64 [N, D]. InstantIDError if one is all zeros."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if not lengths.all():
        raise InstantIDError("A face of the reference has an empty embedding. Make the person again from its photos.")
    return embeddings / lengths


def reference_of(embeddings):
    """Returns the Reference of one person's photos. embeddings: [N, 512], N >= 1, not normalised."""
    directions = unit(embeddings)
    total = directions.sum(axis=0)
    photo_cosines = tuple(cosine(direction, total - direction) for direction in directions) if len(directions) > 1 else ()
    return Reference(unit(total[None])[0], photo_cosines)


def cosine(a, b):
    """Returns the cosine of the angle between two embeddings [D], a float of -1 to 1."""
    a, b = unit([np.asarray(a), np.asarray(b)])
    return float(np.clip(a @ b, -1.0, 1.0))


def band(value):
    """Returns the band of a cosine between photographs, in words. It is too strict for paintings and drawings."""
    return "another person" if value < ANOTHER else "similar" if value <= SAME else "same person"


def seen_faces(photos):
    """Returns the chosen face of each of `faces.Photos`: a list of SeenFace, None for a picture with too few faces."""
    number = photos.choice.index
    chosen = [photos.choice.sort(found, photos.size)[number] if number < len(found) else None for found in photos.found]
    return [None if face is None else SeenFace(
        photos.embedding(index, face), round(min(face.box[2] - face.box[0], face.box[3] - face.box[1])), face.points)
        for index, face in enumerate(chosen)]


def embeddings_of(reference, embedder):
    """Returns the embeddings of a reference, float32 [N, 512]: `faces.Photos` or Person.

    embedder: as `Person.embedder`, of the network that looks at the pictures. faces.NoFaceError if no photo shows a face;
    InstantIDError if a person was made with another network.
    """
    if not isinstance(reference, Person):
        return reference.references()[:, 0]
    check_same_embedder(reference.embedder, embedder)
    return reference.embeddings


def likeness(photos, reference, second=None):
    """Returns the Likeness of pictures to a reference.

    photos: `faces.Photos` of the pictures. reference: `faces.Photos` of the person, or Person. second: a FACEANALYSIS whose
    embedder gives a second opinion on the faces that the first has found. Raises the errors of `embeddings_of`.
    """
    embedder = embedder_name(photos.recognition)
    person, seen = reference_of(embeddings_of(reference, embedder)), seen_faces(photos)
    measured = Likeness(tuple(None if face is None else cosine(face.embedding, person.direction) for face in seen),
                        tuple(None if face is None else face.side for face in seen), person, embedder)
    if second is None:
        return measured
    if not isinstance(reference, Person):
        known = torch.stack([each for each in _embedded(second, reference.images, seen_faces(reference)) if each is not None])
    elif reference.crops is None:
        raise InstantIDError("A second opinion needs the faces of the reference, and this person was saved without them. "
                             "Connect photos to reference, or save the person again with keep_crops.")
    else:  # aligned as the embedder reads them, RGB
        known = find_embedder(second).get_feat([np.ascontiguousarray(crop.numpy()[:, :, ::-1]) for crop in reference.crops])
    again = reference_of(known)
    values = tuple(None if each is None else cosine(each, again.direction) for each in _embedded(second, photos.images, seen))
    name = embedder_name(find_embedder(second))
    return measured._replace(second=values, second_embedder=name, second_photo_cosines=again.photo_cosines)


def _embedded(analysis, images, seen):
    """Returns embeddings [512] of faces that another analysis has found, None where it has found none."""
    photos = faces.Photos(analysis, images)
    return [None if face is None else photos.embed(index, face) for index, face in enumerate(seen)]
