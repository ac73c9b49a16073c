"""Several people in one evaluation of IdentityNet: in its cross-attention each person's tokens are read where that person is.

Masks are brought to IdentityNet's grids, whose rows and columns are the latents' halved once for each level, and there become
shares, which add up to 1 at every place. Where masks overlap, people share by their masks' weights; what masks leave of the
whole is shared by all alike.
"""

from typing import NamedTuple

import einops
import torch

from ..caches import MemoizedLayer, TensorDictionary
from ..identity.terms import attention, frames_of
from ..resampler import TOKENS
from ..utils import InstantIDError


class RegionalPeople:
    """The tokens of several people, with the place, strength and window of each. Read-only but for `latents`.

    tokens: those of all people, in their order, for the positive and the negative: two tensors [1, people * 16, 2048].
    latents: their number in a batch, set at each evaluation.
    masks: for each person float32 [m, H, W] with values in 0..1, one for each latent of a batch, of which the last serves the
    rest, or None for the whole picture. strengths: for each person the factor of IdentityNet's residuals; None where the
    ControlNet has one for all. windows: for each person the first and the last timestep, (start, end) with start >=
    end, at which IdentityNet acts for it; None where it is the same for all.
    """

    def __init__(self, masks, tokens, strengths=None, windows=None):
        self.masks, self.tokens, self.strengths, self.windows = tuple(masks), tuple(tokens), strengths, windows
        self.latents = None
        self._own_tokens = TensorDictionary()

    def __deepcopy__(self, memo):
        return self

    @property
    def count(self):
        return len(self.masks)

    @property
    def frames(self):
        """The number of latents of a batch whose masks differ."""
        return max((len(mask) for mask in self.masks if mask is not None), default=1)

    def are_own_tokens(self, context):
        """Returns whether a context [b, tokens, 2048] holds these people's tokens, not those of a later Apply node."""
        if context not in self._own_tokens:
            sides = [side.to(context) for side in self.tokens]
            self._own_tokens[context] = context.shape[1] == sides[0].shape[1] and bool(
                torch.stack([(context == side).flatten(1).all(dim=1) for side in sides]).any(dim=0).all())
        return self._own_tokens[context]

    def count_latents(self, executor, model, conds, x, timestep, model_options):
        """ComfyUI wrapper around an evaluation of conds: notes the number of latents, among which masks differ.

        InstantIDError in a context window, which has some of the latents only.
        """
        if frames_of(model_options.get("transformer_options", {})) is not None:
            raise InstantIDError("The masks of InstantID Place Person differ among the latents of the batch, which does not "
                                 "work with context windows. Use one mask for each person, or remove the node that makes the "
                                 "windows.")
        self.latents = len(x)
        return executor(model, conds, x, timestep, model_options)

    def mask_numbers(self, rows):
        """Returns the number of the mask for each of the rows of a batch, which holds all latents once or several times.

        InstantIDError if the number of latents is not known.
        """
        if self.latents is None or rows % self.latents:
            raise InstantIDError("The masks of InstantID Place Person differ among the latents of the batch, and IdentityNet "
                                 "is not told which latents it is given. Connect the model of Apply InstantID (Several People) "
                                 "to the sampler, or use one mask for each person.")
        return [min(row % self.latents, self.frames - 1) for row in range(rows)]

    def scaled(self, residuals, shares, timesteps):
        """Returns the residuals {"middle": tensors, "output": tensors}, each multiplied by the strength at each place.

        The tensors [b, channels, h, w] are changed. shares: as `SharesOnGrids` gives them. timesteps: [b].
        """
        if "strengths" not in shares:
            return residuals
        strengths = shares["strengths"][:, None]  # (people, 1)
        if "windows" in shares:
            start, end = shares["windows"].to(timesteps.dtype).unbind(dim=1)  # rounded as the timesteps are
            strengths = strengths * ((timesteps <= start[:, None]) & (timesteps >= end[:, None]))
        factors = {}
        for tensors in residuals.values():
            for residual in tensors:
                cells = residual.shape[2] * residual.shape[3]
                if cells not in factors:
                    factors[cells] = (strengths[:, :, None, None] * shares[cells]).sum(dim=0)  # (b or 1, cells, 1)
                residual.mul_(factors[cells].view(-1, 1, *residual.shape[2:]))
        return residuals


class SharesOnGrids(torch.nn.Module):
    """The constants of a run with several people: {cells of a grid: shares [people, b or 1, cells, 1]}, float32, and where
    people differ in them {"strengths": [people], "windows": [people, 2]}."""

    def __init__(self, people, levels):
        """levels: the number of grids, each half as high and wide as the one before."""
        super().__init__()
        self.people, self.levels = people, levels

    def forward(self, context, height, width):
        """context: the tokens of all people [b, tokens, 2048]. height, width: of the latents."""
        people, device, found = self.people, context.device, {}
        chosen = [0] if people.frames == 1 else people.mask_numbers(len(context))
        if people.strengths is not None or people.windows is not None:
            found["strengths"] = torch.tensor(people.strengths or (1.0,) * people.count).to(device)
        if people.windows is not None:
            found["windows"] = torch.tensor(people.windows).to(device)
        for _ in range(self.levels):
            masks = torch.stack([self._on_grid(mask, height, width) for mask in people.masks]).to(device)
            shares = einops.rearrange(shares_of(masks), "people frames h w -> people frames (h w) 1")
            found[height * width] = shares if people.frames == 1 else shares[:, chosen]
            height, width = -(-height // 2), -(-width // 2)
        return found

    def _on_grid(self, mask, height, width):
        if mask is None:
            return torch.ones(self.people.frames, height, width)
        mask = torch.nn.functional.interpolate(mask[:, None], size=(height, width), mode="bilinear")[:, 0]
        return torch.cat([mask, mask[-1:].expand(self.people.frames - len(mask), -1, -1)])


def shares_of(masks):
    """Returns each person's share at each place, [people, ...] as the masks, whose values are in 0..1."""
    total = masks.sum(dim=0)
    return (masks + (1 - total).clamp(min=0) / len(masks)) / total.clamp(min=1)


class PeopleContext(NamedTuple):
    """The context of IdentityNet in an evaluation with several people."""
    tokens: torch.Tensor  # [b, people * 16, 2048]
    shares: dict          # as `SharesOnGrids` gives them


class ProjectionPerPerson(torch.nn.Module):
    """A projection of each person's tokens on its own, so that its bits are those of the person alone."""

    def __init__(self, layer, people):
        super().__init__()
        self.layer, self.people = layer, people

    def forward(self, tokens):
        """Projects tokens [b, people * 16, 2048] to [people, b, 16, width].

        Other tokens, by which a later Apply InstantID has replaced these, are read for every person.
        """
        if not self.people.are_own_tokens(tokens):
            return self.layer(tokens).expand(self.people.count, -1, -1, -1)
        parts = tokens.split(TOKENS, dim=1)
        return torch.stack([self.layer(part.contiguous()) for part in parts])


class PeopleAttention(torch.nn.Module):
    """A cross-attention block of IdentityNet, its layers shared, whose context is a `PeopleContext`: the sum over the people of
    share * attention(q, K, V) in float32, then the block's output layer."""

    def __init__(self, block, people):
        """block: ComfyUI's CrossAttention, which is not changed. people: `RegionalPeople`."""
        super().__init__()
        self.heads, self.attn_precision = block.heads, block.attn_precision
        self.to_q, self.to_out = block.to_q, block.to_out
        self.to_k, self.to_v = (MemoizedLayer(ProjectionPerPerson(layer, people)) for layer in (block.to_k, block.to_v))

    def forward(self, x, context, value=None, mask=None, **options):
        """x: [b, cells, width]."""
        q = self.to_q(x)
        total = None
        for keys, values, share in zip(self.to_k(context.tokens), self.to_v(context.tokens), context.shares[q.shape[1]],
                                       strict=True):
            term = share * attention(q, keys, values, self.heads, attn_precision=self.attn_precision)
            total = term if total is None else total.add_(term)
        return self.to_out(total.to(q.dtype))
