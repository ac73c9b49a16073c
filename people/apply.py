"""The common end of all Apply nodes: a MODEL and CONDITIONING with one person or several."""

from typing import NamedTuple

import torch

from ..controlnet import apply_identity_net
from ..controlnet.people import RegionalPeople
from ..CrossAttentionPatch import KEY, patch_model
from ..identity import EachLatent, attention_dtype, usable_mask
from ..keypoints import drawing
from ..utils import InstantIDError
from .person import check_same_embedder
from .places import hint_of_person, place_people


class Target(NamedTuple):
    """The adapter, ControlNet, model and prompts with which people are applied."""
    instantid: object    # InstantIDAdapter
    control_net: object  # ComfyUI's ControlNet
    model: object        # ComfyUI's ModelPatcher
    positive: list       # CONDITIONING
    negative: list       # CONDITIONING

    def identity_of_photos(self, references, *settings):
        """Returns the Identity of embeddings [N, 1, 512]. settings: as `InstantIDAdapter.identity_of_photos` takes them."""
        return self.instantid.identity_of_photos(references, attention_dtype(self.model.model), *settings)


def apply_identity(target, identity, hint, settings, options, limits_prompt=True):
    """Returns (model, positive, negative) of a `Target` with one identity; the target itself is not changed.

    hint: IMAGE of drawn keypoints. settings: `Settings`. options: `Options`. limits_prompt: whether the mask limits the
    positive prompt, too.
    """
    patched = patch_model(target.model, identity, settings.ip_weight, settings.start_at, settings.end_at, settings.mask,
                          factors=options.factors("as original"))
    return patched, *apply_identity_net(
        target.positive, target.negative, target.control_net, hint, *identity.tokens(target.instantid.device),
        settings.cn_strength, settings.start_at, settings.end_at, settings.mask if limits_prompt else None,
        each_latent=options.each_latent)


def apply_people(target, people, noise, image_kps, options, width, height):
    """Returns (model, positive, negative) of a `Target` with several people, by one IdentityNet; for one person without a
    mask, the result of Apply InstantID (Person).

    With `options.each_latent` the n-th person belongs to the n-th latent of a batch, alone. people: PersonInPicture objects.
    image_kps: IMAGE of drawn keypoints, or None for the people's own. width, height: of the drawing of all faces, where
    neither keypoints nor masks have a size.
    """
    check_same_embedder(*(one.person.embedder for one in people))
    first = people[0]
    if len(people) == 1:
        identity = target.identity_of_photos(first.person.references, noise, "average", options.each_latent)
        if first.settings.mask is not None:
            image_kps, _ = place_people(people, width, height, image_kps)
        return apply_identity(target, identity, hint_of_person(first, image_kps), first.settings, options, limits_prompt=False)
    identities = [target.identity_of_photos(one.person.references, noise) for one in people]
    if options.each_latent:
        _check_alike(people, keypoints_count=image_kps is None)
        return apply_identity(target, EachLatent(identities), hint_of_person(first, image_kps), first.settings, options)
    hint, masks = place_people(people, width, height, image_kps)
    patched, factors = target.model, options.factors("as original")
    for one, identity, mask in zip(people, identities, masks, strict=True):
        patched = patch_model(patched, identity, one.settings.ip_weight, one.settings.start_at, one.settings.end_at, mask,
                              factors=factors)
    tokens = [torch.cat(side, dim=1)
              for side in zip(*(identity.tokens(target.instantid.device) for identity in identities), strict=True)]
    settings = [one.settings for one in people]
    strength, regional = _regional_people(settings, masks, tokens, target.model)
    if regional.frames > 1:
        from comfy.patcher_extension import WrappersMP
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, f"{KEY}_people", regional.count_latents)
    return patched, *apply_identity_net(
        target.positive, target.negative, target.control_net, hint, *tokens, strength, min(one.start_at for one in settings),
        max(one.end_at for one in settings), people=regional)


def _check_alike(people, keypoints_count):
    """Refuses people who differ in what all latents of a batch share. keypoints_count: whether keypoints are drawn."""
    first = people[0].keypoints
    given = [one.keypoints for one in people[1:] if one.keypoints is not None]
    if keypoints_count and any(first is None or not torch.equal(drawing(first), drawing(each)) for each in given):
        raise InstantIDError("With each_latent all pictures of the batch show the face in the pose of the first person's "
                             "keypoints, and another person has keypoints of its own. Connect the drawings of all, as one "
                             "batch, to image_kps of Apply InstantID (Several People), or take the other person's keypoints "
                             "off.")
    if any(one.settings.mask is not None for one in people) or len({one.settings for one in people}) > 1:
        raise InstantIDError("With each_latent each picture of the batch shows one person, so all people need the same "
                             "weights, start and end, and no masks. Change that in InstantID Place Person, or turn off "
                             "each_latent in InstantID Options.")


def _regional_people(settings, masks, tokens, model):
    """Returns the strength of the ControlNet, and RegionalPeople with the settings in which people differ."""
    masks = [None if mask is None else usable_mask(mask).cpu().float().nan_to_num().clamp(0, 1) for mask in masks]
    strengths, windows = [one.cn_strength for one in settings], [(one.start_at, one.end_at) for one in settings]
    alike = len(set(strengths)) == 1
    return strengths[0] if alike else 1.0, RegionalPeople(
        masks, tokens, None if alike else tuple(strengths),
        None if len(set(windows)) == 1 else tuple(timesteps_of(model, *window) for window in windows))


def timesteps_of(model, start_at, end_at):
    """Returns the first and the last timestep of a part of the sampling, 0..1; infinite where it begins or ends with that."""
    sampling = model.get_model_object("model_sampling")

    def timestep(percent):
        return float(sampling.timestep(torch.tensor(float(sampling.percent_to_sigma(percent)))))
    return (float("inf") if start_at <= 0 else timestep(start_at)), (float("-inf") if end_at >= 1 else timestep(end_at))
