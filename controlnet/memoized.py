"""Layers that compute once what they are given again and again."""

import torch
from torch.utils.weak import WeakTensorKeyDictionary


class Memory(WeakTensorKeyDictionary):
    """What belongs to a tensor, to the very object, and goes with it. A deep copy is empty: it is for another device."""

    def __deepcopy__(self, memo):
        return type(self)()


class MemoizedLayer(torch.nn.Module):
    """A layer that computes once what it is given again and again. Its results are for reading."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.results = Memory()

    def forward(self, argument, *others):
        if torch.is_grad_enabled():
            return self.layer(argument, *others)
        result = self.results.get(argument)
        if result is None:
            result = self.results[argument] = self.layer(argument, *others)
        return result
