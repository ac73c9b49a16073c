"""The layout of a call's inputs: everything about them but the numbers in their tensors."""

import torch

from ..caches import RecentCache


def layout(part, tensors):
    """All of some inputs but the numbers in their tensors, as a key. tensors: {id: tensor}, to which theirs are added."""
    if isinstance(part, torch.Tensor):
        if id(part) in tensors:
            return list(tensors).index(id(part))
        tensors[id(part)] = part
        return part.shape, part.stride(), part.dtype, part.device
    if isinstance(part, tuple | list):
        return (type(part).__name__, *(layout(item, tensors) for item in part))
    if isinstance(part, dict):
        return tuple((key, layout(item, tensors)) for key, item in part.items())
    return RecentCache if isinstance(part, RecentCache) else part


def with_tensors(part, others, sampling_cache=None):
    """Inputs with other tensors in the same places. others: {id: tensor in its place}. sampling_cache: replaces the one that
    the inputs hold."""
    if isinstance(part, torch.Tensor):
        return others[id(part)]
    if isinstance(part, tuple | list):
        items = [with_tensors(item, others, sampling_cache) for item in part]
        return type(part)(*items) if hasattr(part, "_fields") else type(part)(items)
    if isinstance(part, dict):
        return {key: with_tensors(item, others, sampling_cache) for key, item in part.items()}
    return sampling_cache if isinstance(part, RecentCache) else part
