"""A computation to capture."""

import torch


class Function:
    """x * scale + fixed, as one result of several; its ordinary runs are counted."""

    def __init__(self):
        self.runs = 0

    def __call__(self, changing, fixed):
        self.runs += 1
        x, scale = changing
        return {"sum": [x * scale["by"] + fixed[0]], "x": x.clone()}


def call(replays, function, x, scale=2.0, fixed=None, **options):
    fixed = (torch.ones(()),) if fixed is None else fixed
    result = replays.run(function, (x, {"by": torch.tensor(scale)}), fixed, **options)
    return result["sum"][0]
