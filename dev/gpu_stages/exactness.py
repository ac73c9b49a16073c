"""Stages about bits: the exact mode, the adapter, the original's latents."""

import torch
from reference import reference_model

from . import worlds

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
ON_CPU, ON_GPU = 1e-4, 1e-2  # of the expected latents' standard deviation; they were computed on a CPU in float32


def exact(report, settings):
    cases = {"whole run": {}, "part of the run": {"window": (0.2, 0.6)}, "three latents": {"batch": 3}}
    dtypes = DTYPES
    if not settings.gpu:
        cases, dtypes = {"whole run": {}}, (torch.float32,)
    for dtype in dtypes:
        world = worlds.World(settings, dtype, net=False)
        for name, case in cases.items():
            case = dict(case)
            batch, window = case.pop("batch", 1), case.get("window", (0.0, 1.0))
            ours = world.patched(**case)
            blocks = ours.model_options["transformer_options"]["patches_replace"]["attn2"]
            tokens = world.identities[0].tokens(world.device)
            formula = reference_model(world.model, world.adapter, tokens, worlds.WEIGHT, *window, blocks=blocks)
            a, b, plain = (world.sample(model, steps=2, batch=batch) for model in (ours, formula, world.model))
            report.row(f"Exact equals the formula bit for bit: {dtype}, {name}, {world.size} size", difference(a, b),
                       torch.equal(a, b) and bool(a.isfinite().all()))
            if name == "whole run":
                report.row(f"The identity has an effect: {dtype}", difference(a, plain), not torch.equal(a, plain))
        del world, ours, formula
        worlds.forget()


def difference(a, b):
    return f"largest difference {(a.float() - b.float()).abs().max().item():g}"


def adapter(report, settings):
    size = "full" if settings.gpu else "miniature"
    ours = worlds.adapter(settings, size)
    device = ours.device
    for dtype in DTYPES if settings.gpu else DTYPES[:1]:
        cond, uncond = (embedding.to(device, dtype) for embedding in worlds.embeddings(7))
        worlds.forget()
        if settings.gpu:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        made = ours.module(cond, uncond)
        if settings.gpu:
            taken = torch.cuda.max_memory_allocated() - before
            report.row(f"Projecting takes less than 100 MB of the GPU: {dtype}", f"{taken / 1e6:.1f} MB", taken < 100e6)
            report.figures(**{f"bytes of projecting, {dtype}": taken})
        loaded = type(ours.module).from_state_dict({name: weight.to(device, dtype)
                                                    for name, weight in ours.module.state_dict().items()})
        other = loaded(cond, uncond)
        same = torch.equal(made.cond, other.cond) and torch.equal(made.uncond, other.uncond) and all(
            map(torch.equal, (*made.keys, *made.values), (*other.keys, *other.values)))
        report.row(f"An identity has the bits of the adapter loaded on the device: {dtype}",
                   "the same bits" if same else "other bits", same)
        del loaded, other


def oracle(report, settings):
    import contextlib
    import tempfile

    import safetensors.torch
    from instantid_swift import NODE_CLASS_MAPPINGS as nodes
    from oracle import cases
    from oracle import fixtures as fx

    from .recorded_faces import face_analysis
    analysis = face_analysis()
    if analysis is None:
        report.row("The original's workflows give the original's latents",
                   "not tried: insightface and its networks are not here, nor what they found", None)
        return
    expected = safetensors.torch.load_file(str(worlds.CHECKOUT / "tests" / "oracle" / "expected.safetensors"))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StopIteration):
        path = f"{folder}/ip-adapter.bin"
        torch.save(fx.instantid_checkpoint(), path)
        from instantid_swift.identity.adapter import load_adapter
        world = cases.World(model=fx.mini_sdxl(settings.device), net=fx.mini_identity_net(settings.device),
                            instantid=load_adapter(path), analysis=analysis, positive=fx.conditioning(11),
                            negative=fx.conditioning(12))
        bar = ON_GPU if settings.gpu else ON_CPU
        for name in list(cases.CASES)[:None if settings.gpu else 2]:
            with torch.inference_mode():
                latents = cases.CASES[name](nodes, world).cpu()
            off = ((latents - expected[name]).abs().max() / expected[name].std()).item()
            report.row(f"The original's latents: {name}", f"{off:.2g} standard deviations off, at most {bar:g}", off <= bar)
