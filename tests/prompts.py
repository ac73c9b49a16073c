"""Prompts for samplings: short ones. Keys and values of 77 tokens are half of what the miniature computes."""

from oracle import fixtures as fx

TOKENS = 8


def prompt(seed):
    """A CONDITIONING of one entry: the first tokens of the oracle's."""
    (tokens, options), = fx.conditioning(seed)
    return [[tokens[:, :TOKENS].contiguous(), options]]
