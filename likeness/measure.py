"""The likeness of pictures to a person: cosines of face embeddings, -1 to 1. Imports without ComfyUI.

The cosine of ArcFace embeddings is what research on identity measures, and what insightface's `compute_sim` returns.
"""

from typing import NamedTuple

import numpy as np
import torch

from .. import faces
from ..faces.analysis import find_embedder
from ..people.person import Person, embedder_of

ANOTHER, SAME = 0.28, 0.5  # below, and above: what the bands of photographs are divided by
SMALL_FACE = 112           # pixels: a smaller face is enlarged for the embedder, which costs certainty


class LikenessError(ValueError):
    """A likeness cannot be measured; the message says why and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


class SeenFace(NamedTuple):
    """The face of one picture that is meant. Read-only."""
    embedding: torch.Tensor  # float32 [512], not normalised
    side: int                # shorter side of its box in pixels
    points: np.ndarray       # float32 [5, 2], pixels


class Reference(NamedTuple):
    """Whom the pictures are compared with."""
    direction: np.ndarray  # float64 [512], of length 1: the mean of the photos' normalised embeddings
    own: tuple             # cosine of each photo with the mean of the others; empty for a single photo
    photos: int


class Likeness(NamedTuple):
    """The measure of a batch of pictures."""
    values: tuple      # for each picture its cosine, None where it has no face that can be measured
    sides: tuple       # for each picture the shorter side of its face in pixels, None without a face
    reference: Reference
    embedder: str      # folder and file of the network
    second: tuple = ()  # cosines of a second embedder, as values
    second_embedder: str = ""
    second_own: tuple = ()  # as `Reference.own`, of the second embedder

    @property
    def order(self):
        """Indices of the pictures that have a number, best first; of equals the earlier one comes first."""
        return sorted((index for index, value in enumerate(self.values) if value is not None),
                      key=lambda index: -self.values[index])

    def best(self, count=0, minimum=-1.0):
        """Indices of the best pictures, best first. count: at most so many, 0 for all. minimum: the least cosine."""
        kept = [index for index in self.order if self.values[index] >= minimum]
        return kept[:count] if count else kept


def unit(embeddings):
    """Embeddings [N, D] divided by their lengths: float64 [N, D]. LikenessError if one is all zeros."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if not lengths.all():
        raise LikenessError("A face of the reference has an empty embedding. Make the person again from its photos.")
    return embeddings / lengths


def reference_of(embeddings):
    """The Reference of one person's photos. embeddings: [N, 512], N >= 1, not normalised."""
    directions = unit(embeddings)
    total = directions.sum(axis=0)
    own = tuple(cosine(direction, total - direction) for direction in directions) if len(directions) > 1 else ()
    return Reference(unit(total[None])[0], own, len(directions))


def cosine(a, b):
    """The cosine of the angle between two embeddings [D], a float of -1 to 1."""
    (a, b) = unit([np.asarray(a), np.asarray(b)])
    return float(np.clip(a @ b, -1.0, 1.0))


def band(value):
    """What research says of a cosine between photographs, in words. It is too strict for paintings and drawings."""
    return "another person" if value < ANOTHER else "similar" if value <= SAME else "same person"


def look_at(photos, choice=faces.LARGEST):
    """The face of each of some `faces.Photos` that is meant: a list of SeenFace, None for a picture without a face or with too
    few."""
    size = photos.images.shape[2], photos.images.shape[1]
    chosen = [choice.of(found, size) if choice.index < len(found) else None for found in photos.found]
    return [None if face is None else SeenFace(
        photos.embedding(index, face, choice), round(min(face.box[2] - face.box[0], face.box[3] - face.box[1])), face.points)
        for index, face in enumerate(chosen)]


def known_of(analysis, reference, choice=faces.LARGEST, small_faces=False):
    """Embeddings of a reference, float32 [N, 512]: IMAGE, of whose photos `choice` tells the face, or Person.

    faces.NoFaceError if no photo shows a face; LikenessError if a person was made with another network.
    """
    if not isinstance(reference, Person | torch.Tensor):
        raise LikenessError(f"The reference is {reference!r:.80}, which cannot be used. Connect photos or a person.")
    if not isinstance(reference, Person):
        return faces.reference_embeddings(analysis, reference, choice, small_faces=small_faces)[:, 0]
    embedder, sha256 = embedder_of(analysis)
    if reference.embedder_sha256 and sha256 and reference.embedder_sha256 != sha256:
        raise LikenessError(f"The reference was made with the face network {reference.embedder}, and the pictures are looked "
                            f"at with {embedder}. Their numbers cannot be compared: make the person again with the same face "
                            "networks.")
    return reference.embeddings


def likeness(analysis, images, reference, choice=faces.LARGEST, small_faces=False, second=None, of=faces.LARGEST):
    """The Likeness of pictures to a reference.

    analysis: FACEANALYSIS, ours or insightface's. images: IMAGE [n, h, w, c]. reference: IMAGE or Person. choice: which face of
    each picture is measured. of: which face of each reference photo is meant. second: another FACEANALYSIS, whose embedder
    gives a second opinion. Errors are those of `known_of`.
    """
    whom = reference_of(known_of(analysis, reference, of, small_faces))
    seen = look_at(faces.Photos(analysis, images, small_faces), choice)
    measured = Likeness(tuple(None if face is None else cosine(face.embedding, whom.direction) for face in seen),
                        tuple(None if face is None else face.side for face in seen), whom, embedder_of(analysis)[0])
    if second is None:
        return measured
    at = None if isinstance(reference, Person) else look_at(faces.Photos(analysis, reference, small_faces), of)
    return _with_second(measured, second, images, seen, reference, at)


def _with_second(measured, second, images, seen, reference, at):
    """The measure with the cosines of a second embedder, which sees the faces that the first analysis has found.

    seen, at: the faces of the pictures and, unless it is a Person, of the reference.
    """
    if isinstance(reference, Person):
        if reference.crops is None:
            raise LikenessError("A second opinion needs the faces of the reference, and this person was saved without them. "
                                "Connect photos to reference, or save the person again with keep_crops.")
        known = _embedded_crops(second, reference.crops)
    else:
        known = torch.stack([embedding for embedding in _embedded(second, reference, at) if embedding is not None])
    of = reference_of(known)
    values = tuple(None if embedding is None else cosine(embedding, of.direction)
                   for embedding in _embedded(second, images, seen))
    return measured._replace(second=values, second_embedder=embedder_of(second)[0], second_own=of.own)


def _embedded(analysis, images, seen):
    """Embeddings [512] of faces that another analysis has found, None where it has found none."""
    photos = faces.Photos(analysis, images)
    return [None if face is None else photos.embed(index, face) for index, face in enumerate(seen)]


def _embedded_crops(analysis, crops):
    """Embeddings [N, 512] of aligned faces, uint8 [N, 112, 112, 3] RGB."""
    network = find_embedder(analysis)
    if network.input_size[0] != crops.shape[1]:
        raise LikenessError(f"The network of the second opinion reads faces of {network.input_size[0]} pixels, and those of "
                            f"a person have {crops.shape[1]}. Connect photos to reference.")
    return network.get_feat([np.ascontiguousarray(crop.numpy()[:, :, ::-1]) for crop in crops])
