"""What tests ask of the results of InstantID Refine Faces."""

import torch

SIDE = 64  # of a crop while it is painted


def rows(report):
    """{(picture, face): (person, before, after, what)} of a report."""
    lines = [line.split() for line in report.splitlines()]
    return {(int(line[0]), int(line[1])): (line[2], float(line[5]), line[6], line[7]) for line in lines
            if len(line) > 7 and line[0].isdigit()}


def people_in(report, picture=0):
    """The person of each face of a picture, from left to right; - where it is not painted."""
    return "".join(line[0] if line[3] == "painted" else "-" for (number, _), line in rows(report).items() if number == picture)


def only_the_mask_has_changed(before, after, mask):
    assert mask.shape == before.shape[:3] and after.shape == before.shape and after.dtype == before.dtype
    assert torch.equal(after[mask == 0], before[mask == 0])
    return not torch.equal(after, before) and mask.min() >= 0 and mask.max() == 1
