"""The user's loop: what runs of one workflow cost beside the sampling, after each of the usual moves, on a real server.

Ours and the baseline each run in a ComfyUI of their own, on the miniature SDXL and on the same five face networks, and take
turns by rounds. Measured is a prompt from its start to its end without the KSampler node, and of that what InstantID's three
nodes took. `preparation` is Apply InstantID alone, in this process, when only its weight has changed.
"""

import contextlib
import itertools
import sys
import tempfile
from pathlib import Path

import environment
import torch
from oracle import fixtures as fx
from serving.demo_workflow import build, changed, node
from serving.server import Server

from benchmarks import baseline, common, face_networks, models

CACHES = {"default": (), "none": ("--cache-none",), "lru": ("--cache-lru", "1")}  # ComfyUI's arguments
FIRST = "first run"  # of a new server, of which there is one
MOVES = ("same again", "new seed", "new weight", "new window", "new photo", "photo back", "another workflow and back")
PROMPT, NODES = "prompt", "InstantID's nodes"
INSTANTID = ("adapter", "analysis", "apply")  # nodes of the workflow
SHARED = ("checkpoint", "positive", "negative", "latent", "sample")
ADAPTER = "ip-adapter.bin"
SIDE = 1024  # of the photos


def run(arguments):
    caches = list(CACHES)[:1] if arguments.quick else list(CACHES)
    with tempfile.TemporaryDirectory() as scratch:
        base = make_base(Path(scratch))
        networks = face_networks.megabytes(base / "models" / "insightface")
        preparation = measure_preparation(arguments, base)
        runs = {cache: measure(cache, arguments, base) for cache in caches}
    print(f"\nPhotos: {SIDE}x{SIDE}. Face networks, in MB: {', '.join(f'{name} {size}' for name, size in networks.items())}; "
          "1k3d68 and genderage are stand-ins of\nabout the size and time of antelopev2's, the others are smaller than its "
          "own. The adapter is the miniature's: 0.46 GB, the real one has 1.69.")
    return {"preparation milliseconds": preparation, "runs without sampling, milliseconds": runs,
            "networks_megabytes": networks}


def make_base(folder):
    """A folder to be ComfyUI's base directory: the miniature's adapter and five face networks below models/."""
    for name in ("custom_nodes", "models/instantid"):
        (folder / name).mkdir(parents=True)
    torch.save(fx.instantid_checkpoint(), folder / "models" / "instantid" / ADAPTER)
    face_networks.make_five(folder / "models" / "insightface")
    return folder


def photo(name, number=0):
    """IMAGE of one person, a picture of its own for each number: one pixel differs."""
    from photos import read_image
    image = read_image(fx.portrait(name)[0], (SIDE, SIDE))
    image[0, 0, 0] = number / 255
    return image


# ---- over HTTP


def workflow(name, adapter=ADAPTER):
    """Apply InstantID on the miniature with a photo of the server's, one step of sampling, the latent saved."""
    built = build(name, adapter, None, None, size=128, steps=1)
    return {**{key: built[key] for key in (*SHARED, *INSTANTID, "controlnet", "photo")},
            "save": node("SaveLatent", samples=["sample", 0], filename_prefix="latent")}


def moves(start, number, other):
    """(move, prompt) of one round, in order. other: the name of the new photo.

    Weights and seeds are new in each round. The last moves come with a new weight, too: where there is RAM to spare, ComfyUI
    0.30 keeps the results of earlier prompts, and would answer at once.
    """
    weight = 0.5 + 0.01 * number
    first = changed(changed(start, "sample", seed=number), "apply", weight=weight)
    seed = changed(first, "sample", seed=1000 + number)
    weighted = changed(seed, "apply", weight=weight + 0.001)
    window = changed(weighted, "apply", start_at=0.1, end_at=0.9)
    without = {key: start[key] for key in (*SHARED, "save")}
    links = {key: first["apply"]["inputs"][key] for key in ("model", "positive", "negative")}
    return [(FIRST, first), ("same again", first), ("new seed", seed), ("new weight", weighted), ("new window", window),
            ("new photo", changed(window, "photo", image=other)),
            ("photo back", changed(window, "apply", weight=weight + 0.002)),
            ("another workflow", changed(without, "sample", **links)),
            ("another workflow and back", changed(window, "apply", weight=weight + 0.003))]


def play(client, start, number, other):
    """{move: Run} of one round. other: IMAGE."""
    from photos import write_image
    with tempfile.TemporaryDirectory() as folder:
        name = client.upload_image(write_image(Path(folder) / f"other{number}.png", other))
    return {move: client.queue(prompt) for move, prompt in moves(start, number, name)}


def measure(cache, arguments, base):
    """{move: {PROMPT: {pack: milliseconds}, NODES: {pack: milliseconds}}} with one of CACHES, printed as a table."""
    from photos import write_image
    packs = {baseline.title(arguments): baseline.folder(arguments), "ours": None}
    taken = {move: {what: {name: [] for name in packs} for what in (PROMPT, NODES)} for move in (FIRST, *MOVES)}
    settings = ("--base-directory", base, "--fp32-unet", *CACHES[cache])  # --fp32-unet: the miniature's dtype, also on a GPU
    python = None if Path(sys.prefix) == environment.VENV else Path(sys.executable)
    portrait = write_image(base / "portrait.png", photo("a"))
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(Server(
            arguments.comfyui, python, models=None, arguments=settings, log=base / "server.log", pack=pack)).client
            for name, pack in packs.items()}
        for number in range(1 + arguments.iterations):
            for name, client in clients.items():
                runs = play(client, workflow(client.upload_image(portrait)), number, photo("b", number))
                for move in MOVES if number else (FIRST,):
                    seconds = runs[move].seconds
                    # not from when it was queued: ComfyUI may still be tidying up after the one before
                    start = next(moment for moment, kind, _ in runs[move].events if kind == "execution_start")
                    taken[move][PROMPT][name].append(runs[move].total - start - seconds.get("sample", 0))
                    taken[move][NODES][name].append(sum(seconds.get(key, 0) for key in INSTANTID))
    figures = {move: {what: {name: round(1000 * common.median(values), 1) for name, values in of.items()}
                      for what, of in whats.items()} for move, whats in taken.items()}
    print(f"\nMilliseconds of a run without its sampling, and of InstantID's nodes in it. ComfyUI's cache: {cache}")
    report(figures, packs)
    return figures


def report(figures, packs):
    head = ["", *packs, "times", *(f"nodes, {name}" for name in packs), "times"]
    rows = []
    for move, of in figures.items():
        ran = all(of[NODES].values())  # else a ratio says nothing
        rows.append([move])
        for theirs, ours in (of[what].values() for what in (PROMPT, NODES)):
            rows[-1] += [f"{theirs:.0f}", f"{ours:.0f}", f"{theirs / ours:.1f}" if ran else "-"]
    common.print_table(head, rows)


# ---- in process


def measure_preparation(arguments, base):
    """{pack: milliseconds} of Apply InstantID when only the weight has changed: all that is done before the sampling."""
    import folder_paths
    import instantid_swift
    folder_paths.models_dir = str(base / "models")
    for kind in ("instantid", "insightface"):
        folder_paths.add_model_folder_path(kind, str(base / "models" / kind), is_default=True)
    packs = {baseline.title(arguments): baseline.node_classes(arguments), "ours": instantid_swift.NODE_CLASS_MAPPINGS}
    seconds = common.side_by_side({name: preparation(nodes) for name, nodes in packs.items()}, arguments.iterations,
                                  pause=common.PAUSE)
    figures = {name: round(1000 * value, 2) for name, value in seconds.items()}
    print("\nMilliseconds of Apply InstantID after a move of its weight, photo and all else as before")
    theirs, ours = figures.values()
    common.print_table(["", *figures, "times"], [["preparation", f"{theirs:.1f}", f"{ours:.2f}", f"{theirs / ours:.0f}"]])
    return figures


def preparation(nodes):
    """A function that runs a pack's Apply InstantID with a new weight each time."""
    gpu = torch.cuda.is_available()
    device, dtype = (torch.device("cuda"), torch.float16) if gpu else (torch.device("cpu"), torch.float32)
    inputs = {"model": models.unet("miniature", device, dtype), "control_net": models.identity_net("miniature", device, dtype),
              "positive": fx.conditioning(11), "negative": fx.conditioning(12), "image": photo("a"),
              "start_at": 0.0, "end_at": 1.0}
    inputs["instantid"], = nodes["InstantIDModelLoader"]().load_model(instantid_file=ADAPTER)
    inputs["insightface"], = nodes["InstantIDFaceAnalysis"]().load_insight_face(provider="CPU")
    weights = itertools.count(0.5, 0.001)

    def apply():
        with torch.inference_mode():
            nodes["ApplyInstantID"]().apply_instantid(weight=next(weights), **inputs)
    return apply
