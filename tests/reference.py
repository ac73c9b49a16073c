"""What the contract describes, written out with nothing kept: what ours must equal bit for bit.

The attention term at each block is the patch of the benchmarks' stand-in for the original. Faces come from insightface as it
is, one photo after the other. IdentityNet is ComfyUI's own ControlNet, wired by hand.
"""

import copy
import functools

import torch
from control_nets import by_hand
from instantid_swift.identity.blocks import SDXL_BLOCKS
from instantid_swift.identity.terms import attention_dtype
from instantid_swift.utils import draw_keypoints

from benchmarks.original_way import faces
from benchmarks.original_way.patch import patch_model

SIXTY = [block for block in SDXL_BLOCKS if block.section != "middle"]


def reference_model(model, adapter, tokens, weight, start_at=0.0, end_at=1.0, blocks=SDXL_BLOCKS, mask=None):
    """A clone of a model with the formula at some of the 70 blocks. tokens: cond and uncond [N, 16, 2048] of an identity."""
    module, (cond, uncond) = adapter.module, tokens
    projections = {tuple(block): [layer.weight.to(cond) for layer in (to_k, to_v)]
                   for block, to_k, to_v in zip(SDXL_BLOCKS, module.to_k, module.to_v, strict=True)
                   if block in blocks}
    return patch_model(model, projections, cond, uncond, weight, start_at, end_at, mask)


def identity_tokens(world, images, device, dtype, noise, combine):
    """cond and uncond [N, 16, 2048] of the photos' faces, on a device, in dtype."""
    embedding = faces.embeddings(world.analysis, images)
    if len(embedding) > 1 and combine != "concat":
        if combine == "norm average":
            embedding = embedding / torch.norm(embedding, dim=0, keepdim=True)
        embedding = torch.mean(embedding, dim=0, keepdim=True)
    counterpart = torch.zeros_like(embedding)
    if noise > 0:
        generator = torch.Generator().manual_seed(int(torch.sum(embedding).item()) % 1000000007)
        counterpart = noise * torch.rand(embedding.shape, generator=generator)
    with torch.no_grad():
        resampler = copied_to(world.instantid.module.image_proj, device, dtype)
        return tuple(resampler(vector.to(device, dtype)) for vector in (embedding, counterpart))


@functools.cache
def copied_to(module, device, dtype):
    """Returns a copy of a module."""
    return copy.deepcopy(module).to(device, dtype)


def planar(picture):
    """An IMAGE [n, h, w, 3] in planar memory."""
    out = torch.empty(len(picture), 3, *picture.shape[1:3])
    out.copy_(picture.movedim(-1, 1))
    return out.movedim(1, -1)


def keypoint_hint(world, image, image_kps):
    """The drawing of image_kps, or of the first photo; without a face image_kps itself, or zeros like the photos."""
    pictures = image[:1] if image_kps is None else image_kps
    drawn = [draw_keypoints(*pictures.shape[1:3], face.kps) for picture in pictures
             if (face := faces.largest_face(world.analysis, picture)) is not None]
    if not drawn:
        return torch.zeros_like(image) if image_kps is None else image_kps
    return planar(torch.stack([torch.from_numpy(picture) for picture in drawn]).float() / 255)


def reference_apply(world, image, *, model=None, net=None, positive=None, negative=None, ip_weight=0.8, cn_strength=0.8,
                    start_at=0.0, end_at=1.0, noise=0.0, combine_embeds="average", image_kps=None, mask=None):
    """What Apply InstantID Advanced returns: a model, positive and negative."""
    model, net = model or world.model, net or world.net
    tokens = identity_tokens(world, image, model.load_device, attention_dtype(model.model), noise, combine_embeds)
    patched = reference_model(model, world.instantid, tokens, ip_weight, start_at, end_at, SIXTY, mask)
    return patched, *by_hand(
        net, positive or world.positive, negative or world.negative, hint=keypoint_hint(world, image, image_kps),
        identity=[side.float() for side in tokens], strength=cn_strength, window=(start_at, end_at), mask=mask)
