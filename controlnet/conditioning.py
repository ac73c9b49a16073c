"""The ControlNet side: IdentityNet sees the drawn keypoints, and the identity tokens in place of the text."""

import einops

from ..identity.bank import EACH_LATENT
from ..identity.masks import usable_mask
from ..resampler import CONTEXT_WIDTH
from ..utils import InstantIDError, usable_hint


def check_control_net(control_net):
    """Refuses a ControlNet that would crash on SDXL's 2048-wide context in the middle of the sampling."""
    advice = ("Connect InstantID's ControlNet (IdentityNet, diffusion_pytorch_model.safetensors), loaded with "
              "Load ControlNet Model.")
    if control_net is None:
        raise InstantIDError(f"There is no ControlNet: its loader found none in the file. {advice}")
    module = getattr(control_net, "control_model", None)
    if module is None:  # a ControlLora builds its model when the sampling starts; a T2I adapter reads no context
        return
    if not hasattr(module, "input_blocks"):
        raise InstantIDError(f"The ControlNet is a {type(module).__name__}, which is not made for SDXL. {advice}")
    # quantised layers, and attention of other packs, may not tell their widths
    widths = {layer.in_features for name, layer in module.named_modules()
              if name.endswith("attn2.to_k") and hasattr(layer, "in_features")}
    if widths - {CONTEXT_WIDTH}:
        raise InstantIDError(f"The ControlNet reads a context {min(widths)} wide, SDXL's is {CONTEXT_WIDTH}: it is "
                             f"made for another model. {advice}")


def check_reads_people(control_net):
    """Refuses a ControlNet that cannot read several people."""
    from .identity_net import is_plain
    if not is_plain(control_net):
        raise InstantIDError(f"The ControlNet is a {type(control_net).__name__}, which cannot show several people at once. "
                             "Connect InstantID's ControlNet (IdentityNet) straight from Load ControlNet Model.")


def apply_identity_net(positive, negative, control_net, hint, cond, uncond, strength, start_at, end_at, mask=None,
                       people=None, each_latent=False):
    """Returns conditionings that carry IdentityNet; those given, and the ControlNets in them, are not changed.

    hint: IMAGE [n, h, w, 3] of drawn keypoints. cond, uncond: identity tokens [N, 16, 2048] for the positive and the
    negative. mask: MASK, which limits the positive only. At strength 0 IdentityNet would add nothing, so it is left out;
    earlier ControlNets get the tokens all the same. people: `people.RegionalPeople`, if the tokens are those of several
    people, joined in their order. each_latent: the n-th row of the tokens belongs to the n-th latent of a batch, the last
    to all further ones; otherwise ComfyUI begins again with the first.
    """
    from .identity_net import with_cached_constants
    check_control_net(control_net)
    if people is not None:
        check_reads_people(control_net)
    hint = einops.rearrange(usable_hint(hint), "n h w c -> n c h w")
    mask = None if mask is None else usable_mask(mask)
    cond, uncond = cond.to(hint.dtype), uncond.to(hint.dtype)
    copies = {}  # one per control that was there before: ComfyUI runs both passes as one batch only if they share it

    def controlled(previous):
        if previous not in copies:
            copies[previous] = with_cached_constants(control_net.copy(), people)
            copies[previous].set_cond_hint(hint, strength, (start_at, end_at)).set_previous_controlnet(previous)
        return copies[previous]

    def extended(conditioning, tokens, limits):
        return [[text, {**options, **({"control": controlled(options.get("control"))} if strength else {}),
                        "control_apply_to_uncond": False, "cross_attn_controlnet": tokens, **marks, **limits}]
                for text, options in conditioning]

    marks = {EACH_LATENT: True} if each_latent else {}
    limits = {} if mask is None else {"mask": mask, "set_area_to_bounds": False}
    return extended(positive, cond, limits), extended(negative, uncond, {})
