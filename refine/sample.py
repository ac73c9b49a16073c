"""Crops of faces painted anew: encoded as one batch, sampled in one run, decoded. ComfyUI's nodes do each of these."""

from typing import NamedTuple

import torch
from nodes import ImageScale, SetLatentNoiseMask, VAEDecode, VAEEncode, common_ksampler

from ..host.server import throw_if_interrupted
from ..identity import EachLatent
from ..keypoints import Keypoints, draw
from ..people.apply import apply_identity
from ..utils import InstantIDError, pictures_to_image, usable_hint
from .crops import paste

AT_ONCE, OF_SIDE = 8, 768  # crops of that side in one run: with SDXL and IdentityNet in 16 bits, they take less than 12 GB


class Painting(NamedTuple):
    """How faces are painted, apart from the people."""
    target: object    # people.apply.Target
    vae: object       # ComfyUI's VAE
    settings: object  # people.places.Settings, of all faces
    options: object   # Options
    face_size: int    # side of a crop in pixels while it is painted
    feather: float    # as `Crop.mask` takes it
    sampler: dict     # further arguments of ComfyUI's common_ksampler


def paint_faces(image, faces, crops, identities, painting):
    """Returns (pictures, MASK [n, h, w] of what was painted); the given IMAGE [n, h, w, c] is not changed.

    faces: PlacedFace objects. crops, identities: the Crop of each face and the Identity of its person. InstantIDError if the
    VAE does not fit the model.
    """
    at_once = max(1, AT_ONCE * OF_SIDE ** 2 // painting.face_size ** 2)
    jobs = list(zip(faces, crops, identities, strict=True))
    painted = [one for start in range(0, len(jobs), at_once) for one in _paint(image, jobs[start:start + at_once], painting)]
    pictures, masks = image.clone(), torch.zeros(image.shape[:3])
    for face, crop, square in zip(faces, crops, painted, strict=True):
        mask = crop.mask(painting.feather)
        paste(pictures[face.picture:face.picture + 1], crop, _resized(square[None], crop.side), mask)
        here = crop.cut(masks[face.picture:face.picture + 1])
        here.copy_(torch.maximum(here, mask))
    return pictures, masks


def _paint(image, jobs, painting):
    """Returns crops painted in one run: IMAGE [jobs, face_size, face_size, 3]. jobs: triples of face, crop and identity."""
    side, target = painting.face_size, painting.target
    throw_if_interrupted()
    hint = pictures_to_image([draw(Keypoints(side, side, (crop.keypoints(face.keypoints, side),))) for face, crop, _ in jobs])
    model, positive, negative = apply_identity(target, EachLatent([identity for *_, identity in jobs]), hint,
                                               painting.settings, painting.options._replace(each_latent=True))
    squares = torch.cat([_resized(crop.cut(usable_hint(image[face.picture:face.picture + 1])), side) for face, crop, _ in jobs])
    latent, = VAEEncode().encode(painting.vae, squares)
    wanted, found = model.get_model_object("latent_format").latent_channels, latent["samples"].shape[1]
    if found != wanted:
        raise InstantIDError(f"The VAE makes latents of {found} channels, and the model has {wanted}. Connect the VAE of an "
                             "SDXL checkpoint.")
    latent, = SetLatentNoiseMask().set_mask(latent, torch.stack([(crop.depth(side) > 0).float() for _, crop, _ in jobs]))
    # noise goes by the face's place in its picture, so that other pictures of the batch, and other groups, do not change it
    latent["batch_index"] = [face.number for face, *_ in jobs]
    latent, = common_ksampler(model, positive=positive, negative=negative, latent=latent, **painting.sampler)
    return VAEDecode().decode(painting.vae, latent)[0]


def _resized(square, side):
    """Returns an IMAGE [1, h, w, 3] brought to a side by Lanczos, with levels of 8 bits."""
    return ImageScale().upscale(square.float(), "lanczos", side, side, "disabled")[0]
