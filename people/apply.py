"""A MODEL and CONDITIONING with one person or several, from people instead of photos."""

import torch

from ..controlnet import apply_identity_net, check_control_net, check_reads_people
from ..controlnet.people import PeopleInPicture
from ..CrossAttentionPatch import KEY, check_model, patch_model
from ..identity import EachLatent, LatentMask, attention_dtype, merge_embeddings, unconditional_embedding
from ..keypoints import drawing
from .person import PersonError, check_same_embedder
from .places import PersonInPicture, hint_of_one, place_people

SELECTION = "as original"  # of the blocks, as Apply InstantID has it


def apply_person(instantid, control_net, model, positive, negative, one, noise, combine_embeds, image_kps, options,
                 mask_of_prompt=True):
    """(model, positive, negative) with one person; the same as Apply InstantID Advanced makes of the photos.

    one: PersonInPicture. image_kps: IMAGE of drawn keypoints, or None for the person's own. mask_of_prompt: whether the
    person's mask limits the positive prompt, too.
    """
    check_control_net(control_net)
    identity = identity_of(instantid, model, one.person.references, noise, combine_embeds, options.each_latent)
    return _with_one(instantid, control_net, model, positive, negative, one, identity, image_kps, options, mask_of_prompt)


def _with_one(instantid, control_net, model, positive, negative, one, identity, image_kps, options, mask_of_prompt=True):
    factors = options.factors(SELECTION)
    mask = None if one.mask is None else LatentMask(one.mask)
    patched = patch_model(model, identity, one.ip_weight, one.start_at, one.end_at, mask, factors=factors)
    hint = hint_of_one(one.person, one.keypoints) if image_kps is None else image_kps
    return patched, *apply_identity_net(positive, negative, control_net, hint, *identity.tokens(instantid.device),
                                        one.cn_strength, one.start_at, one.end_at, one.mask if mask_of_prompt else None,
                                        each_latent=options.each_latent)


def identity_of(instantid, model, references, noise, combine_embeds="average", each_latent=False):
    """The Identity that a model will attend to. references: ArcFace embeddings [N, 1, 512]. each_latent: the n-th belongs to
    the n-th latent of a batch, so that none are combined."""
    check_model(model, instantid.widths)
    embeddings = references.split(1) if each_latent else [merge_embeddings(references, combine_embeds)]
    identities = [instantid.identity(embedding, unconditional_embedding(embedding, noise), attention_dtype(model.model))
                  for embedding in embeddings]
    return EachLatent(identities) if each_latent else identities[0]


def check_list(people):
    """PersonError if there is nobody in a list of people, or if it is none."""
    if not isinstance(people, tuple) or not people or not all(isinstance(one, PersonInPicture) for one in people):
        raise PersonError("There are no people. Connect InstantID People to the input people.")


def apply_people(instantid, control_net, model, positive, negative, people, noise, image_kps, options, width, height):
    """(model, positive, negative) with several people, by one IdentityNet; for one person without a mask, what
    `apply_person` makes.

    With `options.each_latent` the n-th person belongs to the n-th latent of a batch, alone. people: PersonInPicture objects.
    width, height: of the drawing of all faces, where nothing else tells it.
    """
    if len(people) == 1:
        if people[0].mask is not None:
            image_kps = place_people(people, width, height, image_kps)[0]
        return apply_person(instantid, control_net, model, positive, negative, people[0], noise, "average", image_kps, options,
                            mask_of_prompt=False)
    check_control_net(control_net)
    check_same_embedder([one.person for one in people])
    identities = [identity_of(instantid, model, one.person.references, noise) for one in people]
    if options.each_latent:
        _check_alike(people, keypoints_count=image_kps is None)
        return _with_one(instantid, control_net, model, positive, negative, people[0], EachLatent(identities), image_kps,
                         options)
    check_reads_people(control_net)
    factors = options.factors(SELECTION)
    hint, masks = place_people(people, width, height, image_kps)
    patched = model
    for one, identity, mask in zip(people, identities, masks, strict=True):
        patched = patch_model(patched, identity, one.ip_weight, one.start_at, one.end_at, mask, factors=factors)
    tokens = [torch.cat(side, dim=1)
              for side in zip(*(identity.tokens(instantid.device) for identity in identities), strict=True)]
    strength, in_picture = _in_identity_net(people, masks, tokens, model)
    if in_picture.frames > 1:
        from comfy.patcher_extension import WrappersMP
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, f"{KEY}_people", in_picture.count_latents)
    return patched, *apply_identity_net(
        positive, negative, control_net, hint, *tokens, strength, min(one.start_at for one in people),
        max(one.end_at for one in people), people=in_picture)


def _check_alike(people, keypoints_count):
    """PersonError if people differ in what holds for all latents of a batch. keypoints_count: whether they are drawn."""
    first = people[0].keypoints
    given = [one.keypoints for one in people[1:] if one.keypoints is not None]
    if keypoints_count and any(first is None or not torch.equal(drawing(first), drawing(each)) for each in given):
        raise PersonError("With each_latent all pictures of the batch show the face in the pose of the first person's "
                          "keypoints, and another person has keypoints of its own. Connect the drawings of all, as one batch, "
                          "to image_kps of Apply InstantID People, or take the other person's keypoints off.")
    if any(one.mask is not None for one in people) or len({one[1:5] for one in people}) > 1:
        raise PersonError("With each_latent each picture of the batch shows one person, so all people need the same weights, "
                          "start and end, and no masks. Change that in InstantID People, or turn off each_latent in InstantID "
                          "Options.")


def _in_identity_net(people, masks, tokens, model):
    """The strength of the ControlNet, and the PeopleInPicture with what differs among people."""
    masks = [None if mask is None else mask.masks.float().nan_to_num().clamp(0, 1) for mask in masks]
    strengths, windows = [one.cn_strength for one in people], [(one.start_at, one.end_at) for one in people]
    alike = len(set(strengths)) == 1
    return strengths[0] if alike else 1.0, PeopleInPicture(
        masks, tokens, None if alike else tuple(strengths),
        None if len(set(windows)) == 1 else tuple(timesteps_of(model, *window) for window in windows))


def timesteps_of(model, start_at, end_at):
    """The first and the last timestep of a part of the sampling, 0..1; without limit where it begins or ends with it."""
    sampling = model.get_model_object("model_sampling")

    def timestep(percent):
        return float(sampling.timestep(torch.tensor(float(sampling.percent_to_sigma(percent)))))
    return (float("inf") if start_at <= 0 else timestep(start_at)), (float("-inf") if end_at >= 1 else timestep(end_at))
