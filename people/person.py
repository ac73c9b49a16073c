"""PERSON: the face embeddings and keypoints of one person, which can be saved, blended and applied without the networks."""

import os
from typing import NamedTuple

import torch

from ..utils import InstantIDError

CROP = 112  # width and height of the aligned crop that the embedder reads
UNKNOWN = "unknown"
# insightface's packs of networks with another embedder than antelopev2's, which InstantID's adapter was trained with
OTHER_PACKS = ("antelope", "buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc")


class Person(NamedTuple):
    """One person in N photos. Read-only.

    It holds the embeddings of the faces, not normalised, and the five points of each. Photos without a face are left out.
    """
    embeddings: torch.Tensor  # float32 [N, 512]
    points: torch.Tensor      # float32 [N, 5, 2] in pixels of the photo
    sizes: torch.Tensor       # int64 [N, 2], width and height of the photo
    embedder: str             # folder and file of the network that gave the embeddings, such as antelopev2/glintr100.onnx
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
        """Returns the person of some of the photos. photos: their indices."""
        return self._replace(**{name: getattr(self, name)[photos] for name in ("embeddings", "points", "sizes", "crops")
                                if getattr(self, name) is not None})

    def __deepcopy__(self, memo):
        return self


def person_of_photos(*batches):
    """Returns the person of one or more `faces.Photos`, whose sizes may differ, with crops.

    Batches without a face are left out, as long as another one shows a face and none is required of them. InstantIDError if
    InstantID's adapter was not trained with the embedder.
    """
    shown = [photos for photos in batches if photos.require_all or any(photos.found)] or batches
    people = [_person_of_batch(photos) for photos in shown]
    return people[0]._replace(**{name: torch.cat([getattr(person, name) for person in people])
                                 for name in ("embeddings", "points", "sizes", "crops")})


def _person_of_batch(photos):
    embeddings, embedder = photos.references()[:, 0], embedder_name(photos.recognition)
    check_embedder(embedder)
    found = [(face.points, crop_face(picture, face.points))
             for picture, face in zip(photos.pictures, photos.chosen, strict=True) if face]
    points, crops = (torch.stack([torch.from_numpy(each.copy()) for each in part]) for part in zip(*found, strict=True))
    return Person(embeddings, points.float(), torch.tensor(photos.size).repeat(len(found), 1), embedder, crops)


def crop_face(picture, points):
    """Returns the aligned face of a photo, uint8 BGR [h, w, 3], as the embedder reads it: uint8 [112, 112, 3], RGB."""
    from insightface.utils import face_align
    return face_align.norm_crop(picture, points, CROP)[:, :, ::-1].copy()


def embedder_name(network):
    """Returns folder and file of an embedder, as `Person` holds them."""
    path = getattr(network, "model_file", None)
    return "/".join(os.path.abspath(path).split(os.sep)[-2:]) if path else UNKNOWN


def check_embedder(name):
    """Raises InstantIDError if a network of this name gives embeddings that InstantID's adapter was not trained with.

    name: as `Person.embedder`. Unknown networks pass.
    """
    pack = name.split("/")[0]
    if pack in OTHER_PACKS:
        raise InstantIDError(f"The face comes from the networks {pack}, and InstantID's adapter was trained with antelopev2's: "
                             "it would not be recognised. Make the person again with InstantID Face Analysis.")


def check_same_embedder(*names):
    """Raises InstantIDError if embeddings come from different networks, so that they cannot be compared or mixed.

    names: as `Person.embedder`. Networks are told apart by their files' names.
    """
    known = sorted({name for name in names if name != UNKNOWN})
    if len({name.split("/")[-1] for name in known}) > 1:
        raise InstantIDError(f"The faces come from different networks: {' and '.join(known)}. Make the person again with the "
                             "same InstantID Face Analysis.")
