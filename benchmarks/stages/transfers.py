"""What is copied between host and device, and what is read back: to prepare a person, for a run, for each step.

Counted by the calls of torch's operators (tests/stand_ins/traffic.py); nothing is timed. On a GPU torch's profiler counts once
more: it sees every copy, whoever makes it. Without a GPU the device is simulated: ComfyUI and the pack then decide and call as
they do with one, only what a GPU's own libraries might copy does not happen.
"""

import contextlib
import functools
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import torch
from oracle import fixtures as fx
from stand_ins.traffic import FROM_DEVICE, TO_DEVICE, Watch, simulated_device

from benchmarks import CHECKOUT, common

from . import sampling

PLAIN, NET = "plain UNet", "UNet and IdentityNet"
NETWORKS = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev")) / "models" / "insightface"
MASK = (1, 96, 96)
SMALLEST_BANK = 100_000  # numbers: an identity's K and V, one after the other; an adapter's biases are shorter
POOLED = 2816  # and the picture's sizes
KINDS = {(1, 512): "embedding", (16, 2048): "identity tokens", (77, 2048): "text tokens", MASK[1:]: "mask"}


def run(arguments):
    """The figures; printed as tables."""
    gpu, size = torch.cuda.is_available(), arguments.size or "miniature"
    dtype = getattr(torch, arguments.dtype or ("float16" if gpu else "bfloat16"))  # as wide, and CPUs compute in it
    resolution = arguments.resolution or (1024 if size == "full" else 64)
    networks = arguments.networks or (NETWORKS if NETWORKS.is_dir() else None)
    on_gpu = contextlib.nullcontext((torch.device("cuda"), Watch()))
    with on_gpu if gpu else simulated_device() as (device, watch):
        world = sampling.World(size, device, dtype)
        counts = {"preparing": count_preparing(world, watch, networks),
                  **count_sampling(variants(world), watch, resolution // 8)}
    figures = {what: {name: columns(row) for name, row in rows.items()} for what, rows in counts.items()}
    for what, table in figures.items():
        head = list(next(iter(table.values())))
        print(f"\n{what[0].upper()}{what[1:]}")
        common.print_table(["", *head], [[name, *(f"{row[column]:,}" for column in head)] for name, row in table.items()])
    sizes = full_sizes(resolution=1024)
    print("\nBytes at full size, float16\n" + "\n".join(f"  {name}: {size:,}" for name, size in sizes.items()))
    return {**figures, "by kind": {what: {name: by_kind(row) for name, row in rows.items()} for what, rows in counts.items()},
            "bytes at full size": sizes, "device": torch.cuda.get_device_name() if gpu else "simulated", "dtype": str(dtype),
            "size": size, "resolution": resolution}


def columns(counts):
    """Of some counts, what the tables show: {column: number}."""
    found = {"host reads": counts["host reads"]}
    for way in (TO_DEVICE, FROM_DEVICE):
        for what in ("copies", "bytes"):
            found[f"{what} {way}"] = sum(number for key, number in counts.items() if key[:2] == (what, way))
    return {**found, **{key: number for key, number in counts.items() if str(key).startswith("profiler")}}


def by_kind(counts):
    """{"identity tokens to the device": {"copies": 2, "bytes": 131072}}"""
    found = {}
    for key, number in counts.items():
        if isinstance(key, tuple) and number:
            what, way, kind = key
            found.setdefault(f"{kind} {way}", {})[what] = number
    return found


# ---- preparing


def count_preparing(world, watch, networks):
    """{phase: counts}, from a photo where there are networks, else from an embedding, to a patched model."""
    import comfy.model_management
    from instantid_swift import caches, faces
    from instantid_swift.controlnet.conditioning import apply_identity_net
    from instantid_swift.CrossAttentionPatch import patch_model
    from instantid_swift.identity.bank import unconditional_embedding
    from instantid_swift.identity.blocks import factors_of_blocks
    made = SimpleNamespace(embedding=world.embedding, hint=world.hint())
    analysis = networks and faces.open_face_analysis([str(networks)], "CPU")

    def look_at_photo():
        made.embedding = faces.Photos(analysis, fx.portrait("a")).references()
        made.hint = faces.Photos(analysis, fx.portrait("a")).drawing(first_only=True)

    def project():
        uncond = unconditional_embedding(made.embedding, sampling.NOISE)
        made.identity = world.adapter.identity(made.embedding, uncond, world.dtype)

    def patch():
        patch_model(world.model, made.identity, sampling.WEIGHT, 0.0, 1.0, factors=factors_of_blocks("as original"))
        apply_identity_net(world.positive, world.negative, world.net, made.hint,
                           *made.identity.tokens(world.adapter.device), sampling.WEIGHT, 0.0, 1.0)

    comfy.model_management.unload_all_models()
    caches.clear()
    counts = {}
    for phase, work in {**({"photo to embedding and keypoints": look_at_photo} if networks else {}),
                        "embedding to tokens, K and V": project, "the same person again": project,
                        "patching model and conditionings": patch}.items():
        with watch.count(functools.partial(kind, other="adapter weights")) as traffic:
            work()
        counts[phase] = traffic.counts
    return counts


def kind(tensor, other):
    """What a tensor is, told by its shape."""
    if tensor.ndim == 4 and tensor.shape[1] in (3, 4):
        return "hint" if tensor.shape[1] == 3 else "latents"
    if tensor.ndim < 2 and tensor.numel() <= 1000:
        return "noise levels" if tensor.is_floating_point() else "indices"
    if tensor.ndim == 2 and tensor.shape[1] == POOLED:
        return "pooled text"
    if tensor.ndim == 1 and tensor.numel() >= SMALLEST_BANK:
        return "K and V"
    return KINDS.get(tuple(tensor.shape[-2:]), other)


# ---- sampling


def variants(world):
    """{name: (model, positive, negative)}"""
    from instantid_swift.controlnet.conditioning import apply_identity_net
    from instantid_swift.CrossAttentionPatch import patch_model
    from instantid_swift.identity.blocks import factors_of_blocks
    from reference import reference_model
    factors, identity, weight = factors_of_blocks("as original"), world.identity, sampling.WEIGHT
    text = world.positive, world.negative
    formula = reference_model(world.model, world.adapter, identity.tokens(world.adapter.device), weight, blocks=factors)

    def term(start_at=0.0, end_at=1.0, mask=None):
        return patch_model(world.model, identity, weight, start_at, end_at, mask, factors=factors)

    def net(device):
        return apply_identity_net(*text, world.net, world.hint(), *identity.tokens(device), weight, 0.0, 1.0)

    return {PLAIN: (world.model, *text),
            "term, formula without caches": (formula, *text),
            "term": (term(), *text),
            "term, in a part of the run": (term(0.1, 0.9), *text),
            "term, under a mask": (term(mask=torch.rand(MASK)), *text),
            NET: (world.model, *net(world.adapter.device)),
            "Apply InstantID": (term(), *net(world.adapter.device)),
            "Apply InstantID, tokens left on the host": (term(), *net("cpu"))}


def count_sampling(wired, watch, cells):
    """What each variant does at a step, in a run besides its steps, and in its first run besides: {what: {variant: counts}},
    all beyond the plain UNet's; those are under its name, {"plain UNet": {what: counts}}."""
    def sample(steps, name):
        function = functools.partial(fx.sample, *wired[name], size=(cells, cells), steps=steps)
        with watch.count(functools.partial(kind, other="other")) as traffic:
            function()
        if torch.cuda.is_available():
            traffic.counts.update(profiled(function))
        return traffic.counts

    fx.sample(*wired["Apply InstantID"], size=(cells, cells), steps=1)  # loads the models
    counts = {"a step": {}, "a run": {}, "the first run": {}}
    for name in wired:
        first, one, two = sample(1, name), sample(1, name), sample(2, name)
        counts["a step"][name] = step = less(two, one)
        counts["a run"][name] = less(one, step)
        counts["the first run"][name] = less(first, one)  # by the profiler nothing: it has looked at later ones
    plain = {what: rows.pop(PLAIN) for what, rows in counts.items()}
    return {PLAIN: plain, **{what: {name: less(row, plain[what]) for name, row in rows.items()}
                             for what, rows in counts.items()}}


def less(counts, others):
    """The difference, below zero, too."""
    difference = Counter(counts)
    difference.subtract(others)
    return difference


def profiled(function):
    """Counts by torch's profiler: {column: count}."""
    profile = common.profile(function)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    found = {"profiler: host reads": sum(event.get("name") == "aten::_local_scalar_dense" for event in events)}
    for way, name in ((TO_DEVICE, "Memcpy HtoD"), (FROM_DEVICE, "Memcpy DtoH")):
        copies = [event.get("args", {}).get("bytes", 0) for event in events if event.get("name", "").startswith(name)]
        found |= {f"profiler: copies {way}": len(copies), f"profiler: bytes {way}": sum(copies)}
    return found


# ---- full size


def full_sizes(resolution):
    """Bytes of what InstantID brings, for SDXL and InstantID's own file: computed from shapes."""
    from instantid_swift.identity.adapter import AdapterNetwork
    from instantid_swift.identity.bank import Identity
    with torch.device("meta"):
        network = AdapterNetwork([width * 320 for width in fx.BLOCK_WIDTHS])
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
    embedding, *tokens = (torch.zeros(shape, dtype=torch.float16) for shape in ((1, 1, 512), (1, 16, 2048), (1, 16, 2048)))
    bank = [torch.zeros(2, 16, width * 320, dtype=torch.float16) for width in fx.BLOCK_WIDTHS]
    identity = Identity(*tokens, bank, bank)
    tokens = 2 * identity.cond.numel() * identity.cond.element_size()
    return {"embeddings, both passes": 2 * embedding.numel() * embedding.element_size(),
            "identity tokens, both passes": tokens, "K and V of 70 blocks, both passes": identity.bytes - tokens,
            "adapter weights, float32": weights, f"hint, {resolution}x{resolution}": 3 * resolution ** 2 * 2}
