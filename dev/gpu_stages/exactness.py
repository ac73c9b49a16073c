"""Stages about bits: the exact mode, the adapter, the fused kernel, the original's latents."""

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


def fused(report, settings):
    """At each dtype: how far fused and exact are from the same sum in float64."""
    from instantid_swift.identity import fused as kernel
    from instantid_swift.identity.attention import attention
    device = torch.device(settings.device)
    for dtype in DTYPES:
        variant = kernel.Variant(device, dtype, 64, 2, 16, True)
        reason = kernel.reason_not_to_run(variant)
        if reason:
            report.row(f"Fused is within the error of exact: {dtype}", f"the exact terms run instead: {reason}",
                       None)
            continue
        generator = torch.Generator().manual_seed(0)
        q, out = (torch.randn(2, 1024, 640, generator=generator).to(device, dtype) for _ in range(2))
        keys, values = (torch.randn(2, 2, 16, 640, generator=generator).to(device, dtype) for _ in range(2))
        weights, masks = [0.7, -0.4], torch.rand(2, 2, 1024, generator=generator).to(device)
        exact, right = out.clone(), out.double()
        for k, v, weight, mask in zip(keys, values, weights, masks, strict=True):
            exact = exact + (weight * mask[:, :, None] * attention(q, k, v, 10)).to(dtype)
            heads = [t.double().unflatten(-1, (10, -1)).transpose(1, 2) for t in (q, k, v)]
            term = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
            right = right + weight * mask[:, :, None].double() * term
        kernel.add_identities(out, q, keys, values, torch.tensor(weights, device=device),
                              torch.tensor([16, 16], dtype=torch.int32, device=device), masks, 10)
        errors = [(sum_.double() - right).abs().max().item() for sum_ in (out, exact)]
        report.row(f"Fused is within the error of exact: {dtype}",
                   f"error of fused {errors[0]:.2g}, of exact {errors[1]:.2g}", errors[0] <= 2 * errors[1])
    world = worlds.World(settings, torch.float16 if settings.gpu else torch.float32)
    a, b = (world.sample(*world.applied(fused=fused), steps=2) for fused in (True, False))
    relative = ((a.float() - b.float()).abs().max() / b.float().std()).item()
    report.row("A picture with fused is the exact one but for last bits", f"{relative:.2g} standard deviations",
               None if reason else relative < 0.05)


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
