"""Crops of faces painted anew: encoded as one batch, sampled in one run, decoded. ComfyUI's nodes do each of these."""

from typing import NamedTuple

import torch
from nodes import ImageScale, SetLatentNoiseMask, VAEDecode, VAEEncode, common_ksampler

from ..host.server import throw_if_interrupted
from ..identity import EachLatent
from ..keypoints import draw
from ..people.apply import apply_identity
from ..utils import InstantIDError, pictures_to_image, usable_hint
from .crops import paste

# Crops of that side in one run: by ComfyUI's estimate 2.5 GB, beside 7.6 GB of SDXL and IdentityNet in 16 bits
AT_ONCE, OF_SIDE = 8, 768


class Painting(NamedTuple):
    """How faces are painted, apart from the people."""
    target: object    # people.apply.Target
    vae: object       # ComfyUI's VAE
    settings: object  # people.places.Settings, of all faces
    options: object   # Options
    face_size: int    # side of a crop in pixels while it is painted
    feather: float    # as `Crop.mask` takes it
    sampler: dict     # further arguments of ComfyUI's common_ksampler


def paint_faces(image, crops, identities, painting):
    """Returns (pictures, MASK [n, h, w] of what was painted); the given IMAGE [n, h, w, c] is not changed.

    identities: for each Crop the Identity of the face's person. InstantIDError if the VAE does not fit the model.
    """
    at_once = max(1, AT_ONCE * OF_SIDE ** 2 // painting.face_size ** 2)
    painted = []
    for start in range(0, len(crops), at_once):
        group = slice(start, start + at_once)
        painted += _paint(image, crops[group], identities[group], painting).split(1)
    pictures, masks = image.clone(), torch.zeros(image.shape[:3])
    for crop, square in zip(crops, painted, strict=True):
        mask = crop.mask(painting.feather)
        paste(pictures, crop, _resized(square, crop.side), mask)
        crop.cut(masks)[0].add_(mask)  # masks of different faces do not meet
    return pictures, masks


def _paint(image, crops, identities, painting):
    """Returns crops painted in one run: IMAGE [crops, face_size, face_size, 3]."""
    side = painting.face_size
    throw_if_interrupted()
    hint = pictures_to_image([draw(crop.keypoints(side)) for crop in crops])
    model, positive, negative = apply_identity(painting.target, EachLatent(identities), hint, painting.settings,
                                               painting.options._replace(each_latent=True))
    squares = torch.cat([_resized(usable_hint(crop.cut(image)), side) for crop in crops])
    latent, = VAEEncode().encode(painting.vae, squares)
    wanted, found = model.get_model_object("latent_format").latent_channels, latent["samples"].shape[1]
    if found != wanted:
        raise InstantIDError(f"The VAE makes latents of {found} channels, and the model has {wanted}. Connect the VAE of an "
                             "SDXL checkpoint.")
    latent, = SetLatentNoiseMask().set_mask(latent, torch.stack([(crop.depth(side) > 0).float() for crop in crops]))
    # noise goes by the face's place in its picture, so that other pictures of the batch, and other groups, do not change it
    latent["batch_index"] = [crop.face.number for crop in crops]
    latent, = common_ksampler(model, positive=positive, negative=negative, latent=latent, **painting.sampler)
    return VAEDecode().decode(painting.vae, latent)[0]


def _resized(square, side):
    """Returns an IMAGE [1, h, w, 3] brought to a side by Lanczos, with levels of 8 bits. NaN is black."""
    return ImageScale().upscale(square.float().nan_to_num(0.0), "lanczos", side, side, "disabled")[0]
