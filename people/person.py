"""PERSON: what the face networks know of one person, as a value that can be kept, blended and applied without the networks."""

import functools
import hashlib
import os
from typing import NamedTuple

import torch

from .. import caches, faces
from ..faces.analysis import find_embedder

EMBEDDING_WIDTH = 512
CROP = 112  # width and height of the aligned crop that the embedder reads
UNKNOWN = "unknown"
# insightface's packs of networks with another embedder than antelopev2's, which InstantID's adapter was trained with
OTHER_PACKS = ("antelope", "buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc")


class PersonError(ValueError):
    """A person cannot be used; the message says why and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


class Person(NamedTuple):
    """One person, known from one or more photos. Read-only.

    Of N photos: their faces' embeddings, not normalised, and where the five points of each face were. Photos without a face are
    not among them.
    """
    embeddings: torch.Tensor  # float32 [N, 512]
    points: torch.Tensor      # float32 [N, 5, 2] in pixels of the photo
    sizes: torch.Tensor       # int64 [N, 2], width and height of the photo
    embedder: str             # folder and file of the network that gave the embeddings, such as antelopev2/glintr100.onnx
    embedder_sha256: str      # of that file; empty if it is not known
    crops: torch.Tensor | None = None  # uint8 [N, 112, 112, 3], RGB: the aligned faces, for previews

    @property
    def photos(self):
        """The number of photos."""
        return len(self.embeddings)

    @property
    def references(self):
        """The embeddings as the adapter takes them: float32 [N, 1, 512], a copy."""
        return self.embeddings.clone()[:, None]

    def only(self, photos):
        """The person of some of the photos. photos: their indices."""
        return self._replace(**{name: getattr(self, name)[photos] for name in ("embeddings", "points", "sizes", "crops")
                                if getattr(self, name) is not None})

    def __deepcopy__(self, memo):
        return self


def person_of_photos(analysis, images, choice=faces.LARGEST, require_all=False, small_faces=False):
    """The person of photos, with crops.

    analysis: FACEANALYSIS, ours or insightface's. images: IMAGE [n, h, w, c]. choice: which face of each photo is meant.
    small_faces: look closer at big photos in which no face was found at first. NoFaceError if no photo shows a face, or with
    require_all if any shows none; FaceIndexError where there are too few faces; PersonError if the embedder is one that
    InstantID's adapter does not know. """
    photos = faces.Photos(analysis, images, small_faces)
    embeddings = photos.references(choice, require_all)[:, 0]
    name, sha256 = embedder_of(analysis)
    check_embedder(name)
    found = [(picture, face.points) for picture, face in zip(photos.pictures, photos.chosen(choice), strict=True) if face]
    size = torch.tensor([images.shape[2], images.shape[1]])
    return Person(embeddings, torch.stack([torch.tensor(points, dtype=torch.float32) for _, points in found]),
                  size.repeat(len(found), 1), name, sha256, torch.stack([_crop(*one) for one in found]))


def person_of_list(analysis, batches, choice=faces.LARGEST, require_all=False, small_faces=False):
    """Returns the person of a list of IMAGEs, whose sizes may differ. Arguments and errors as of `person_of_photos`."""
    looked_at = [faces.Photos(analysis, images, small_faces) for images in batches]
    shown = [photos.images for photos in looked_at if require_all or any(photos.found)] or batches
    people = [person_of_photos(analysis, images, choice, require_all, small_faces) for images in shown]
    for photos in looked_at:
        if not any(photos.found):
            photos.report_missing([None] * len(photos.images))
    return people[0]._replace(**{name: torch.cat([getattr(person, name) for person in people])
                                 for name in ("embeddings", "points", "sizes", "crops")})


def _crop(picture, points):
    from insightface.utils import face_align
    return torch.from_numpy(face_align.norm_crop(picture, points, CROP)[:, :, ::-1].copy())


def embedder_of(analysis):
    """Returns (name, sha256) of the file of an analysis's embedder, as `Person` holds them."""
    path = _embedder_file(analysis)
    return _name_of(path), _sha256_of(caches.file_key(path)) if path else ""


def _embedder_file(analysis):
    path = getattr(find_embedder(analysis), "model_file", None)
    return path if isinstance(path, str | os.PathLike) and os.path.isfile(path) else None


def _name_of(path):
    return UNKNOWN if path is None else "/".join(os.path.normpath(os.path.abspath(path)).split(os.sep)[-2:])


@functools.lru_cache(maxsize=8)
def _sha256_of(file_key):
    digest = hashlib.sha256()
    with open(file_key[0], "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_people(*people):
    """PersonError if one of them is no person, as where a workflow's file has a text in place of a link."""
    for person in people:
        if not isinstance(person, Person):
            raise PersonError(f"A person was expected, and this is {person!r:.80}. Connect InstantID Person or "
                              "InstantID Load Person.")


def check_embedder(name):
    """PersonError if a network of this name gives embeddings that InstantID's adapter was not trained with.

    name: as `Person.embedder`. What cannot be told is let through.
    """
    pack = name.split("/")[0]
    if pack in OTHER_PACKS:
        raise PersonError(f"The face comes from the networks {pack}, and InstantID's adapter was trained with antelopev2's: it "
                          "would not be recognised. Make the person again with InstantID Face Analysis.")


def check_same_embedder(people):
    """PersonError if people come from different networks, whose embeddings cannot be compared or mixed."""
    names = {person.embedder_sha256: person.embedder for person in people if person.embedder_sha256}
    if len(names) > 1:
        raise PersonError(f"The people come from different face networks ({' and '.join(sorted(set(names.values())))}, with "
                          "different content). Make them again with the same InstantID Face Analysis.")
