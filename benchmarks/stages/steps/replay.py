"""Sampling replayed as CUDA graphs: ms per step beside the ordinary calls and the baseline, what a capture costs and when it
has paid for itself, and that no picture is another one.

Without a GPU no time is measured: recorded operations (tests/recorded.py) stand for CUDA graphs, and what is left are the
counts and the differences of latents.

On a GPU, at full size, both passes at each step (cfg 4.5). The soak, whose queue items are of all three sizes, needs to run
only once; each command should be done within ten minutes:

    python -m benchmarks replay --comfyui PATH --iterations 3 --batch-sizes 1 2 4 --resolution 512 --output FILE
    python -m benchmarks replay --comfyui PATH --iterations 3 --batch-sizes 1 2 4 --resolution 768 --items 0 --output FILE
    python -m benchmarks replay --comfyui PATH --iterations 3 --batch-sizes 1 2 4 --resolution 1024 --items 0 --output FILE

What must hold, and is said at the end, and in the JSON under "does not hold", where it does not: replayed latents differ by
0.0 from those of the ordinary calls; Apply InstantID with all replayed is at least 3.5 times as fast as the baseline at
512 x 512 and 1.55 times at 1024 x 1024, batch 1; five queue items with other texts, weights, identities and seeds need one
capture of the UNet and one of IdentityNet; in the soak no latent differs, and the GPU's memory is back where it began.
"""

import contextlib
import gc
import random
import time
from typing import NamedTuple

import torch
from oracle import fixtures as fx

from benchmarks.support import baseline, common

from . import sampling

PLAIN, TERM, APPLY = sampling.PLAIN, sampling.TERM, sampling.APPLY
ALL_REPLAYED = f"{APPLY}, ours, all replayed"
SIZES = {"full": (512, 768, 1024), "miniature": (64, 96, 128), "quick": (64, 96)}  # pixels of a side
AT_LEAST = {512: 3.5, 1024: 1.55}  # times as fast as the baseline, Apply InstantID at batch 1
WINDOWS = ((0.0, 1.0), (0.0, 0.5), (0.3, 1.0))
COLUMNS = ("ms per step", "times as fast as the baseline", "largest difference", "captures", "replays", "MB of captures",
           "capture seconds", "paid for after steps")


def add_arguments(parser):
    parser.add_argument("--size", choices=("full", "miniature"), help="default: full on a GPU, else the miniature")
    parser.add_argument("--steps", type=int, nargs="+", metavar="N", help="default: 4 and 8, of --quick 3")
    parser.add_argument("--items", type=int, help="queue items of the soak; 0 for none; default: 50, of --quick 6")


def run(arguments):
    gpu = torch.cuda.is_available()
    quick = arguments.quick
    size = arguments.size or ("full" if gpu and not quick else "miniature")
    sizes = SIZES["quick" if quick and size == "miniature" else size]
    resolutions = [arguments.resolution] if arguments.resolution else sizes[:1] if quick else sizes
    batches = arguments.batch_sizes or ([1] if quick else [1, 2, 4])
    steps = arguments.steps or ([3] if quick else [4, 8])
    rounds = arguments.iterations
    items = (6 if quick else 50) if arguments.items is None else arguments.items
    world = sampling.World(size, torch.device("cuda" if gpu else "cpu"),
                           getattr(torch, arguments.dtype or ("float16" if gpu else "float32")))
    if not gpu:
        print("There is no CUDA device: NO REPLAY HAS RUN ON A GPU. Recorded operations stand for CUDA graphs, no time is "
              "measured.")
    with watched(gpu) as watch:
        variants = dict(variants_of(world, arguments))
        table = {}
        for pixels in resolutions:
            for batch in batches:
                for number in steps:
                    name = f"{pixels} x {pixels}, batch {batch}, {number} steps"
                    table[name] = measure(variants, watch, {"size": (pixels // 8,) * 2, "batch": batch, "steps": number},
                                          rounds if gpu else 0)
                    print(f"\n{name}")
                    report(table[name])
        figures = {"steps": table, "five prompts": five_prompts(world, watch, sizes[0], steps[0])}
        if items:
            figures["soak"] = soak(world, watch, sizes, steps[0], items)
    for name in list(figures)[1:]:
        print(f"\n{name}: " + ", ".join(f"{what} {value:g}" for what, value in figures[name].items()))
    figures["does not hold"] = what_does_not_hold(figures, size)
    print("\nDifference: of latents, replayed from not replayed, ours from the baseline's, with reuse from without.")
    print("\n".join(f"DOES NOT HOLD: {what}" for what in figures["does not hold"]) or "All that must hold holds.")
    return {**figures, "replayed as": "CUDA graphs" if gpu else "recorded operations, no GPU", "dtype": str(world.dtype),
            "size": size, "baseline": baseline.title(arguments)}


@contextlib.contextmanager
def watched(gpu):
    """What captures, with its captures counted and timed, and the replays counted: a class with these as attributes."""
    from instantid_swift.replay import graphs
    if gpu:
        backend = graphs.CudaGraph
    else:
        from stand_ins.recorded import Recordings as backend

    class Watched(backend):
        captures = replays = 0
        seconds = 0.0

        def __init__(self, function):
            common.synchronise()
            start, replays = time.perf_counter(), Watched.replays
            super().__init__(function)
            common.synchronise()
            Watched.seconds += time.perf_counter() - start
            Watched.captures += 1
            Watched.replays = replays  # the first launch belongs to the capture

        def replay(self):
            Watched.replays += 1
            super().replay()

        @classmethod
        def begin(cls):
            """No captures, and none counted."""
            graphs.drop_now()
            cls.captures = cls.replays = 0
            cls.seconds = 0.0

    before, graphs.backend = graphs.backend, Watched
    try:
        yield Watched
    finally:
        graphs.drop_now()
        graphs.backend = before


class Variant(NamedTuple):
    """A way to sample. Its name begins with what it is compared to the baseline in: TERM or APPLY."""
    wired: tuple             # (model, positive, negative)
    like: str | None = None  # the variant from which its latents' difference is taken
    replayed: bool = False


def variants_of(world, arguments):
    """(name, Variant) of each way."""
    from instantid_swift import NODE_CLASS_MAPPINGS
    from instantid_swift.replay.calls import with_replay
    text = world.positive, world.negative
    theirs, *their_control = world.apply_baseline(arguments)
    ours, *control = applied(world)
    title = baseline.title(arguments)
    yield PLAIN, Variant((world.model, *text))
    yield f"{PLAIN}, replayed", Variant((*with_replay(world.model), *text), PLAIN, True)
    yield f"{TERM}, {title}", Variant((theirs, *text))
    yield f"{TERM}, ours", Variant((ours, *text), f"{TERM}, {title}")
    yield f"{TERM}, ours, replayed", Variant((*with_replay(ours), *text), f"{TERM}, ours", True)
    yield f"{APPLY}, {title}", Variant((theirs, *their_control))
    yield f"{APPLY}, ours", Variant((ours, *control), f"{APPLY}, {title}")
    yield f"{APPLY}, ours, UNet replayed", Variant((*with_replay(ours), *control), f"{APPLY}, ours", True)
    yield ALL_REPLAYED, Variant(replayed(ours, *control), f"{APPLY}, ours", True)
    if "InstantIDStepReuse" in NODE_CLASS_MAPPINGS:
        for every in (2, 3):
            reusing = NODE_CLASS_MAPPINGS["InstantIDStepReuse"]().reuse(*control, every=every)
            yield f"{APPLY}, ours, IdentityNet every {every} steps", Variant((ours, *reusing), f"{APPLY}, ours")


def applied(world, model=None, identity=None, text=None, weight=sampling.WEIGHT, window=(0.0, 1.0)):
    """(model, positive, negative) after Apply InstantID without its face networks."""
    from instantid_swift.controlnet.conditioning import apply_identity_net
    from instantid_swift.CrossAttentionPatch import patch_model
    from instantid_swift.identity.blocks import factors_of_blocks
    identity = identity or world.identity
    patched = patch_model(model or world.model, identity, weight, *window, factors=factors_of_blocks("as original"))
    return patched, *apply_identity_net(*(text or (world.positive, world.negative)), world.net, world.hint(),
                                        *identity.tokens(world.adapter.device), weight, *window)


def replayed(model, positive, negative):
    """The same after the node InstantID Replay."""
    from instantid_swift.replay.nodes import InstantIDReplay
    return InstantIDReplay().replay(model, positive, negative)


def measure(variants, watch, settings, rounds):
    """The figures of each variant. settings: of `fx.sample`. rounds: of timing, 0 for none."""
    from instantid_swift.replay import graphs
    latents, figures = {}, {}
    for name, variant in variants.items():
        watch.begin()
        runs = [fx.sample(*variant.wired, **settings) for _ in range(1 + variant.replayed)]  # the 2nd by the 1st one's captures
        latents[name] = runs[0]
        figures[name] = {}
        if variant.like:
            figures[name]["largest difference"] = max(difference(run, latents[variant.like]) for run in runs)
        if variant.replayed:
            figures[name] |= {"captures": watch.captures, "replays": watch.replays}
        if variant.replayed and rounds:
            figures[name] |= {"MB of captures": graphs.statistics()["bytes"] / 1e6, "capture seconds": watch.seconds}
    if rounds:
        time_variants(variants, figures, watch, settings, rounds)
    return figures


def time_variants(variants, figures, watch, settings, rounds):
    """Adds the times to the figures."""
    functions = {name: lambda wired=variant.wired: fx.sample(*wired, **settings) for name, variant in variants.items()}
    watch.begin()
    for function in functions.values():
        function()
    captures = watch.captures
    seconds = common.side_by_side(functions, rounds, warmup=0)
    for name, variant in variants.items():
        step = seconds[name] / settings["steps"]
        figures[name]["ms per step"] = 1000 * step
        what = name.partition(",")[0]
        theirs = next((other for other in variants if other.startswith(f"{what}, ")), None)  # the first is the baseline
        if what != PLAIN and theirs != name:
            figures[name]["times as fast as the baseline"] = seconds[theirs] / seconds[name]
        if variant.replayed:
            saved = seconds[variant.like] / settings["steps"] - step
            figures[name]["paid for after steps"] = figures[name]["capture seconds"] / saved if saved > 0 else None
            figures[name]["captures while timed"] = watch.captures - captures  # of all variants


def difference(latents, others):
    return (latents.float() - others.float()).abs().max().item()


def five_prompts(world, watch, pixels, steps):
    """Queue items whose text, weight, identity and seed differ: captures, replays, and the largest difference."""
    from instantid_swift.identity.bank import unconditional_embedding
    watch.begin()
    largest = 0.0
    for item in range(5):
        embedding = 20 * torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(item))
        identity = world.adapter.identity(embedding, unconditional_embedding(embedding, sampling.NOISE), world.dtype)
        wired = applied(world, identity=identity, text=(fx.conditioning(20 + item), fx.conditioning(40 + item)),
                        weight=0.5 + 0.1 * item)
        settings = {"size": (pixels // 8,) * 2, "steps": steps, "seed": item}
        largest = max(largest, difference(fx.sample(*replayed(*wired), **settings), fx.sample(*wired, **settings)))
    return {"captures": watch.captures, "replays": watch.replays, "largest difference": largest}


def soak(world, watch, sizes, steps, items):
    """Queue items whose size, LoRA and window change: how many latents differ from the ordinary call's, and what is left
    after memory is given back."""
    from instantid_swift.host import server
    from instantid_swift.replay import graphs
    choice = random.Random(0)
    models = [world.model, with_lora(world.model, 1), with_lora(world.model, 2)]
    wrong = 0

    def settle():
        """One ordinary item, then nothing kept: bytes that are allocated on the GPU."""
        fx.sample(*applied(world), size=(sizes[0] // 8,) * 2, steps=1)
        server.release_memory()
        graphs.drop_now(only_if_requested=True)
        gc.collect()
        return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0

    watch.begin()
    before = settle()
    for item in range(items):
        pixels, window, model = (choice.choice(of) for of in (sizes, WINDOWS, models))
        settings = {"size": (pixels // 8,) * 2, "steps": steps, "seed": item}
        wired = applied(world, model, weight=choice.uniform(0.3, 1.2), window=window)
        wrong += not torch.equal(fx.sample(*replayed(*wired), **settings), fx.sample(*wired, **settings))
    figures = {"items": items, "wrong": wrong, "captures": watch.captures, "replays": watch.replays,
               "captures held at the end": graphs.statistics()["captures"]}
    left = settle() - before
    figures["captures left"] = graphs.statistics()["captures"]
    return {**figures, "bytes left": left} if torch.cuda.is_available() else figures


def with_lora(model, seed):
    """A clone of a model, a few of its weights patched as by a LoRA."""
    generator = torch.Generator().manual_seed(seed)
    model = model.clone()
    weights = model.model_state_dict()
    names = [name for name in weights if name.endswith("attn1.to_q.weight")][::20]
    model.add_patches({name: ("diff", (0.01 * torch.randn(weights[name].shape, generator=generator),)) for name in names}, 1.0)
    return model


def what_does_not_hold(figures, size):
    """Of the requirements at the top of this file, in words."""
    found = []
    for name, rows in figures["steps"].items():
        found += [f"{name}: {variant}: the latents differ by {row['largest difference']:g}"
                  for variant, row in rows.items() if variant.endswith("replayed") and row["largest difference"]]
        found += [f"{name}: {variant}: {what}" for variant, row in rows.items() if "captures" in row
                  for what, count in (("nothing was replayed", not row["replays"]),
                                      ("captures fell into the timing", row.get("captures while timed"))) if count]
        pixels, fast = int(name.split()[0]), rows[ALL_REPLAYED].get("times as fast as the baseline")
        if size == "full" and ", batch 1," in name and fast and fast < AT_LEAST.get(pixels, 0):
            found.append(f"{name}: {fast:.2f} times as fast as the baseline, not {AT_LEAST[pixels]}")
    prompts, queue = figures["five prompts"], figures.get("soak")
    if prompts["captures"] != 2 or prompts["largest difference"]:
        found.append(f"five prompts: {prompts}")
    if queue and (queue["wrong"] or queue["captures left"] or queue.get("bytes left", 0) > 0 or not queue["replays"]):
        found.append(f"soak: {queue}")
    return found


def report(rows):
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    common.print_table(["", *columns], [[name, *("-" if row.get(column) is None else f"{row[column]:.4g}"
                                                 for column in columns)] for name, row in rows.items()])
