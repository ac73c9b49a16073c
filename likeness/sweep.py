"""A sweep: one setting of InstantID at several values, each with several seeds. Imports without ComfyUI.

A sweep becomes a graph of ComfyUI's own nodes at run time, so that ComfyUI keeps each picture: a value more costs its own
pictures only, and an interrupted sweep goes on where it was.
"""

import re
from statistics import fmean
from typing import NamedTuple

from ..identity import SELECTIONS
from ..utils import InstantIDError

NUMBERS = {  # setting: least and most value
    "weight": (0.0, 3.0), "ip_weight": (0.0, 3.0), "cn_strength": (0.0, 10.0), "noise": (0.0, 1.0), "start_at": (0.0, 1.0),
    "end_at": (0.0, 1.0), "step reuse": (1, 10)}
BLOCKS = "blocks"
SETTINGS = [*NUMBERS, BLOCKS]
APPLY = "ApplyInstantIDAdvanced"
APPLY_LINKS = ("instantid", "insightface", "control_net", "image", "model", "positive", "negative", "image_kps", "mask",
               "options")
NEEDED_LINKS = (*APPLY_LINKS[:7], "latent_image", "vae")  # the others are optional
APPLY_WIDGETS = ("ip_weight", "cn_strength", "start_at", "end_at", "noise", "combine_embeds")
SAMPLER_WIDGETS = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
OPTIONS = {"enabled": True, "face_order": "largest", "face_index": 0, "no_face": "skip", "small_faces": False,
           "block_weights": "", "each_latent": False, "any_angle": False}  # InstantID Options unchanged, but for its blocks
LARGEST_SEED = 2 ** 64 - 1
MOST_CELLS = 256
_RANGE = re.compile(r"(\S+)\s+to\s+(\S+)\s+step\s+(\S+)")


class Cells(NamedTuple):
    """The pictures of a sweep: one for each value and seed."""
    setting: str   # one of SETTINGS
    values: tuple  # floats; ints of step reuse, names of blocks
    seeds: tuple   # ints

    @property
    def pairs(self):
        """(value, seed) of each picture, value by value."""
        return [(value, seed) for value in self.values for seed in self.seeds]

    @property
    def keys(self):
        """The ids of the pictures in the graph, value by value."""
        return [self.key(*pair) for pair in self.pairs]

    def key(self, value, seed):
        return f"{self.setting} {label(value)} seed {seed}"


def label(value):
    return value if isinstance(value, str) else f"{value:.10g}"


def parse_cells(setting, values, seeds):
    """Returns the Cells that two texts describe. values: "0.4, 0.6" or "0.4 to 1.0 step 0.2". seeds: "1, 2, 3"."""
    if setting not in SETTINGS:
        raise InstantIDError(f"There is no setting {setting!r:.80} to vary. Choose one of: {', '.join(SETTINGS)}.")
    cells = Cells(setting, _values(setting, values), _seeds(seeds))
    if len(cells.keys) > MOST_CELLS:
        raise InstantIDError(f"The sweep has {len(cells.keys)} pictures; at most {MOST_CELLS} are made. Use fewer values or "
                             "seeds.")
    return cells


def _parts(text, noun):
    parts = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    if not parts:
        raise InstantIDError(f"There are no {noun}. Write them with commas between, such as 1, 2.")
    return parts


def _values(setting, text):
    found = []
    for part in _parts(text, "values"):
        if setting == BLOCKS:
            if part not in SELECTIONS:
                raise InstantIDError(f"There is no block selection {part[:80]!r}. Write some of: {', '.join(SELECTIONS)}.")
            found.append(part)
            continue
        in_range = _RANGE.fullmatch(part)
        numbers = _range(*(_number(one) for one in in_range.groups()), part) if in_range else [_number(part)]
        least, most = NUMBERS[setting]
        for number in numbers:
            if not least <= number <= most or isinstance(least, int) and number != int(number):
                kind = "a whole number" if isinstance(least, int) else "a number"
                raise InstantIDError(f"The value {number:g} cannot be used: {setting} is {kind} of {least:g} to {most:g}.")
            found.append(int(number) if isinstance(least, int) else number)
    return tuple(dict.fromkeys(found))


def _range(first, last, step, part):
    if step <= 0 or last < first or (last - first) / step > MOST_CELLS:
        raise InstantIDError(f"The range {part[:80]!r} cannot be used. Write for example 0.4 to 1.0 step 0.2, with at most "
                             f"{MOST_CELLS} values.")
    return [round(first + index * step, 6) for index in range(int((last - first) / step + 1e-6) + 1)]


def _number(text):
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise InstantIDError(f"The value {text[:80]!r} is not a number. Write for example 0.4, 0.6, 0.8 or 0.4 to 1.0 step "
                             "0.2.")
    return number


def _seeds(text):
    found = []
    for part in _parts(text, "seeds"):
        if not (part.isascii() and part.isdigit() and int(part[:40]) <= LARGEST_SEED):
            raise InstantIDError(f"The seed {part[:80]!r} cannot be used. Write whole numbers of 0 to {LARGEST_SEED}.")
        found.append(int(part))
    return tuple(dict.fromkeys(found))


def add_cells(graph, cells, links, apply, sampling, kept=()):
    """Adds the nodes of all cells but those whose keys are `kept` to a graph; returns {key of a cell: link to its pictures}.

    graph: ComfyUI's GraphBuilder. links: {input: link} of what all cells share. apply, sampling: the widgets of Apply
    InstantID Advanced and of KSampler. An Apply node serves all seeds of its value.
    """
    shared = {name: links[name] for name in APPLY_LINKS if name in links}
    pictures = {}
    for value in cells.values:
        seeds = [seed for seed in cells.seeds if cells.key(value, seed) not in kept]
        if not seeds:
            continue
        name = f"{cells.setting} {label(value)}"
        settings, given = dict(apply), dict(shared)
        if cells.setting == "weight":
            settings |= {"ip_weight": value, "cn_strength": value}
        elif cells.setting == BLOCKS:
            given["options"] = graph.node("InstantIDOptions", f"options {name}", **OPTIONS, blocks=value).out(0)
        elif cells.setting in apply:
            settings[cells.setting] = value
        applied = graph.node(APPLY, f"apply {name}", **given, **settings)
        positive, negative = applied.out(1), applied.out(2)
        if cells.setting == "step reuse":
            reuse = graph.node("InstantIDStepReuse", f"reuse {name}", positive=positive, negative=negative, every=value,
                               most_drift=1.0)
            positive, negative = reuse.out(0), reuse.out(1)
        for seed in seeds:
            key = cells.key(value, seed)
            sampled = graph.node("KSampler", f"sample {key}", model=applied.out(0), positive=positive, negative=negative,
                                 latent_image=links["latent_image"], seed=seed, **sampling)
            pictures[key] = graph.node("VAEDecode", f"decode {key}", samples=sampled.out(0), vae=links["vae"]).out(0)
    return pictures


class Scores(NamedTuple):
    """The likeness of a sweep's pictures: {(value, seed): cosines of its pictures, None where one has no face}."""
    cells: Cells
    likeness: dict

    def cell_numbers(self, value, seed):
        """Returns the cosines of one cell."""
        return [number for number in self.likeness[value, seed] if number is not None]

    def numbers(self, value):
        """Returns the cosines of a value with all seeds."""
        return [number for seed in self.cells.seeds for number in self.cell_numbers(value, seed)]

    def missing(self, value):
        """Returns the number of pictures of a value without a cosine."""
        return sum(self.likeness[value, seed].count(None) for seed in self.cells.seeds)

    @property
    def best(self):
        """The value of the largest mean, among those with the fewest pictures without a cosine; None if no picture has one."""
        measured = [value for value in self.cells.values if self.numbers(value)]
        return min(measured, key=lambda value: (self.missing(value), -fmean(self.numbers(value))), default=None)
