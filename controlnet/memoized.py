"""Layers that compute once what they are given again and again."""

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..host.allocation import outside_of_recordings


class Memory(WeakTensorKeyDictionary):
    """A dictionary whose keys are tensors, told apart as objects; an entry goes when its tensor goes.

    A deep copy, which ComfyUI makes for another device, is empty.
    """

    def __deepcopy__(self, memo):
        return type(self)()


class MemoizedLayer(torch.nn.Module):
    """A layer that computes its result once for each tensor object. Callers do not change the results."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.results = Memory()

    def forward(self, argument, *others):
        if torch.is_grad_enabled():
            return self.layer(argument, *others)
        result = self.results.get(argument)
        if result is None:
            with outside_of_recordings():
                result = self.results[argument] = self.layer(argument, *others)
        return result
