"""What was claimed of the original and no other stage measures: clones, re-runs, keys of caches, sizes of the detector.

Nothing here depends on a GPU. The models are the miniature's; a clone's bytes are to be seen beside the adapter's.
"""

import copy
import timeit

import torch

from benchmarks import baseline, common

from . import sampling
from .transfers import NETWORKS

PICTURES = 50
RUNS = 4
A_BLOCK = ("input", 4, 0)


def run(arguments):
    world = sampling.World("miniature", torch.device("cpu"), torch.float32)
    figures = {"clone": clones(world, arguments), "terms at a block of the first model": accumulation(world, arguments),
               "pictures that got the key of another": collisions(), "blocks": blocks()}
    if NETWORKS.is_dir():
        figures["faces found in a close-up"] = sizes_of_the_detector()
    for title, table in figures.items():
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        print(f"\n{title[0].upper()}{title[1:]}")
        common.print_table(["", *columns], [[name, *(f"{row[column]:,g}" if column in row else "-" for column in columns)]
                                            for name, row in table.items()])
    adapter = world.adapter.bytes
    tokens = torch.rand(1, 16, 2048)
    repeat = 1e6 * min(timeit.repeat(lambda: tokens.repeat(2, 1, 1), number=200, repeat=5)) / 200
    print(f"\nBytes of the miniature's adapter: {adapter:,}. Repeating the tokens for a batch of 2: {repeat:.1f} microseconds.")
    return {**figures, "adapter bytes": adapter, "repeat microseconds": repeat}


def patched(world, arguments):
    """{name: model}: as it is loaded, after our Apply, after the baseline's."""
    return {"plain model": world.model, "ours": ours(world, world.model),
            baseline.title(arguments): world.apply_baseline(arguments)[0]}


def ours(world, model):
    from instantid_swift.CrossAttentionPatch import patch_model
    from instantid_swift.identity.blocks import factors_of_blocks
    return patch_model(model, world.identity, sampling.WEIGHT, 0.0, 1.0, factors=factors_of_blocks("as original"))


def clones(world, arguments):
    """Of clone() as this ComfyUI has it, and of the deep copy of a model's options that it was until February 2026."""
    figures = {}
    for name, model in patched(world, arguments).items():
        copies = {}
        copy.deepcopy(model.model_options, copies)
        seconds = common.side_by_side({"clone": model.clone, "copy": lambda model=model: copy.deepcopy(model.model_options)},
                                      arguments.iterations)
        figures[name] = {"clone() ms": 1000 * seconds["clone"], "deep copy ms": 1000 * seconds["copy"],
                         "deep copy bytes": sum(thing.nbytes for thing in copies.values() if isinstance(thing, torch.Tensor))}
    return figures


def accumulation(world, arguments):
    """A first identity is applied once, as ComfyUI keeps its model; a second one behind it at each run."""
    theirs = world.apply_baseline(arguments)[0]
    mine = ours(world, world.model)
    packs = {baseline.title(arguments): (theirs, lambda: world.apply_baseline(arguments, model=theirs)),
             "ours": (mine, lambda: ours(world, mine))}
    figures = {}
    for name, (first, apply_second) in packs.items():
        figures[name] = {}
        for number in range(1, RUNS + 1):
            apply_second()
            patch = first.model_options["transformer_options"]["patches_replace"]["attn2"][A_BLOCK]
            figures[name][f"run {number}"] = len(patch.terms)
    return figures


def collisions():
    """Different pictures, each freed before the next one is made. They differ in one pixel."""
    from instantid_swift.caches import tensor_key
    keys = {"tensor.data_ptr()": torch.Tensor.data_ptr, "id(tensor)": id, "str(tensor)": str, "content, ours": tensor_key}
    figures = {}
    for name, key in keys.items():
        seen = set()
        for number in range(PICTURES):
            picture = torch.zeros(1, 512, 512, 3)
            picture[0, 256, 256, 0] = number / PICTURES
            seen.add(key(picture))
            del picture
        figures[name] = {"of": PICTURES, "collisions": PICTURES - len(seen)}
    return figures


def blocks():
    """SDXL's cross-attention blocks, and those that a selection acts on."""
    from instantid_swift.identity.blocks import SELECTIONS, factors_of_blocks
    return {name: {"blocks": len(factors_of_blocks(name))} for name in SELECTIONS}


def sizes_of_the_detector():
    """Faces found in a close-up at each of the original's sizes: set on the detector, as it does, and given to the call."""
    from photos import close_up

    from benchmarks.original_way.faces import SIZES, open_analysis, utils
    detector = open_analysis(NETWORKS, "CPU").det_model
    picture = utils.image_to_bgr(close_up()[0])
    figures = {}
    for size in SIZES:
        detector.input_size = (size, size)
        figures[f"{size}"] = {"size set": len(detector.detect(picture)[0]),
                              "size given": len(detector.detect(picture, input_size=(size, size))[0])}
    return figures
