"""Stages about time: variants side by side at full size, torch.compile and its graphs, faces on CUDA."""

import functools
from pathlib import Path
from types import SimpleNamespace

import torch

from . import worlds

ROUNDS, STEPS = 3, 4
ON_CPU = ("UNet and IdentityNet", "baseline", "ours, exact")  # variants, of which one round of two steps runs


def times_1024(report, settings):
    _times(report, settings, 1024)


def times_512(report, settings):
    _times(report, settings, 512)


def _times(report, settings, pixels):
    """Plain UNet, UNet + IdentityNet, ours, and the baseline, taking turns in each round."""
    sampling, common = worlds.benchmark("sampling"), worlds.benchmark("common")
    world = worlds.World(settings, torch.float16 if settings.gpu else torch.float32)
    steps = STEPS if settings.gpu else 2
    cells = pixels // 8 if world.size == "full" else 8 if pixels == 512 else 16
    variants = _variants(world, sampling)
    counted = [name for name in variants if "compiled" not in name]
    if not settings.gpu:
        variants, counted = {name: variants[name] for name in ON_CPU}, ["UNet and IdentityNet", "ours, exact"]
    for batch in (1, 4):
        what = f"{8 * cells} x {8 * cells}, batch {batch}" + (", miniature" if world.size == "miniature" else "")

        def run(name, what=what, batch=batch):
            return world.sample(*variants[name], cells=(cells, cells), batch=batch, steps=steps)
        times = 2 if settings.gpu else 1  # compiles, too
        latents = {name: [run(name) for _ in range(times)][-1] for name in variants}
        held = torch.cuda.memory_allocated() if settings.gpu else None
        seconds = common.side_by_side({name: lambda name=name: run(name) for name in variants},
                                      ROUNDS if settings.gpu else 1, warmup=0)
        counts = {name: sampling.count(lambda name=name: run(name), steps) for name in counted}
        report.figures(**{what: {name: {"ms per step": 1000 * seconds[name] / steps, **counts.get(name, {})}
                                 for name in variants}, f"{what}: bytes held": held})
        ms = {name: 1000 * taken / steps for name, taken in seconds.items()}
        name = "ours, exact"
        report.row(f"{what}: {name} has the baseline's latents", _difference(latents[name], latents["baseline"]),
                   torch.equal(latents[name], latents["baseline"]))
        found = f"{ms[name]:.1f} ms a step, the baseline {ms['baseline']:.1f} ms"
        report.row(f"{what}: {name} is not slower than the baseline", found,
                   ms[name] <= ms["baseline"] if settings.gpu else None)
        reads = [counts[name]["host reads"] - counts["UNet and IdentityNet"]["host reads"] for name in ("ours, exact",)]
        report.row(f"{what}: the identity adds no host read to a step", f"{reads[0]:g}", reads[0] <= 0)
        if not settings.gpu:
            break


def _difference(a, b):
    return f"largest difference {(a.float() - b.float()).abs().max().item():g}"


def _variants(world, sampling):
    """{name: (model, positive, negative)}"""
    settings, text, ours = world.settings, world.texts[0], world.applied()
    path = Path(settings.work) / f"ip-adapter-{world.size}.bin"
    whole = SimpleNamespace(folder=SimpleNamespace(name=str(path.parent)), adapter_file=path, net=world.net, model=world.model,
                            embedding=worlds.embeddings(5)[0], positive=text[0], negative=text[1])
    arguments = SimpleNamespace(baseline=Path(settings.baseline) if settings.baseline else None)
    theirs = sampling.World.apply_baseline(whole, arguments)
    # the same hint and tokens for all, so that latents can be compared
    model, *net = theirs
    variants = {"plain UNet": (world.model, *text), "UNet and IdentityNet": (world.model, *net), "baseline": theirs,
                "ours, exact": (ours[0], *net), "ours, exact, own IdentityNet": ours}
    if settings.gpu:
        variants["ours, exact, compiled"] = (sampling.compiled_by_comfyui(ours[0]), *net)
    return variants


def compiled(report, settings):
    """How many graphs are made for the first picture, and for others."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._dynamo.utils import counters
    world = worlds.World(settings, torch.float16 if settings.gpu else torch.float32, net=False)

    def picture(what, may_compile, **case):
        patched = world.patched(**case)
        ordinary = world.sample(patched, steps=2)
        model, before = patched.clone(), counters["stats"]["unique_graphs"]
        if settings.gpu:
            set_torch_compile_wrapper(model=model, backend="inductor")
        else:  # one block: to trace all of them takes minutes
            block = "diffusion_model.middle_block.1.transformer_blocks.0"
            set_torch_compile_wrapper(model=model, backend="eager", keys=[block])
        latents = world.sample(model, steps=2)
        graphs = counters["stats"]["unique_graphs"] - before
        report.figures(**{what: graphs})
        if not may_compile:
            report.row(f"torch.compile makes no graph again: {what}", f"{graphs} graphs", not graphs)
        off = ((latents.float() - ordinary.float()).abs().max() / ordinary.float().std()).item()
        report.row(f"A compiled picture is the ordinary one but for last bits: {what}", f"{off:.2g} standard deviations",
                   off < 0.1)
    picture("the first picture", True)
    picture("another weight", False, weight=0.3)
    if settings.gpu:
        picture("another face", False, identity=1)


def faces(report, settings):
    """Sessions on CUDA, where onnxruntime offers it: what they run on, and how long a photo takes."""
    must = "Faces are found on CUDA, where onnxruntime offers it"
    try:
        import onnxruntime
        offered = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    except Exception as error:
        offered = False
        report.figures(reason=str(error))
    if not (offered and settings.gpu):
        return report.row(must, "not tried: onnxruntime is not here, or offers no CUDA", None)
    from instantid_swift.faces.providers import open_session
    networks = sorted((worlds.CHECKOUT / ".dev" / "models" / "insightface").rglob("*.onnx"))
    common = worlds.benchmark("common")
    for network in networks:
        sessions = {provider: open_session(str(network), provider) for provider in ("CPU", "CUDA")}
        source = sessions["CPU"].get_inputs()[0]
        side = source.shape[2] if isinstance(source.shape[2], int) else 640
        inputs = {source.name: torch.rand(1, 3, side, side).numpy()}
        seconds = common.side_by_side(
            {name: functools.partial(session.run, None, inputs) for name, session in sessions.items()}, ROUNDS)
        report.figures(**{network.name: seconds})
        report.row(f"{must}: {network.name}", sessions["CUDA"].get_providers()[0],
                   sessions["CUDA"].get_providers()[0].startswith("CUDA"))
    if not networks:
        report.row(must, "not tried: there are no networks", None)
