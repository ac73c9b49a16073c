"""Stages about InstantID Replay. It is used as users do, by its node; what it did is read from `replay.statistics()`."""

import contextlib
import random

import torch
from instantid_swift import replay

from . import worlds

STEPS = 4  # the first UNet call of a layout is an ordinary one, the second captures
ON_CPU = ("InstantID", "under a mask", "three latents", "in a part of the run", "two people")  # of the stage "replay"


def _world(settings):
    return worlds.World(settings, torch.float16 if settings.gpu else torch.float32)


def _runs(world, wired, again=1, **sampling):
    """(latents of ordinary calls, latents of each replayed run, what the pack said)."""
    sampling = {"steps": STEPS, **sampling}
    ordinary = world.sample(*wired, **sampling)
    with worlds.reasons() as heard:
        runs = [world.sample(*worlds.replayed(*wired), **sampling) for _ in range(again)]
    return ordinary, runs, [line for line in heard.said if "eplay" in line]


def _row(report, what, ordinary, runs):
    off = max((run.float() - ordinary.float()).abs().max().item() for run in runs)
    report.row(f"Replayed equals ordinary: {what}", f"largest difference {off:g}",
               all(torch.equal(run, ordinary) for run in runs) and bool(ordinary.isfinite().all()))


def _row_of_captures(report, heard):
    captures = replay.statistics()["captures"]
    report.row("Something was captured", f"{captures} captures" + "".join(f"; {line}" for line in dict.fromkeys(heard)),
               captures > 0)


def equal(report, settings):
    world = _world(settings)
    from instantid_swift.identity.masks import LatentMask
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :32] = 1.0
    applied, said = world.applied, []
    first = applied(mask=LatentMask(mask))
    cases = {
        "InstantID": (applied(), {}),
        "another text": (applied(text=1), {}),
        "another weight": (applied(weight=0.3), {}),
        "another seed": (applied(), {"seed": 8}),
        "another face": (applied(identity=1), {}),
        "under a mask": (first, {}),
        "three latents": (applied(), {"batch": 3}),
        "in a part of the run": (applied(window=(0.3, 0.8)), {}),
        "two people": (applied(model=first[0], identity=1, mask=LatentMask(1 - mask)), {}),
        "a LoRA": (applied(model=world.with_lora()), {}),
        "without the LoRA again": (applied(), {}),
        "one pass (cfg 1)": (applied(), {"cfg": 1.0}),
        "the UNet alone": ((world.model, *world.texts[0]), {}),
    }
    for name in cases if settings.gpu else ON_CPU:
        wired, sampling = cases[name]
        ordinary, runs, heard = _runs(world, wired, again=2 if settings.gpu else 1, **sampling)
        said += heard
        _row(report, name, ordinary, runs)
        if name == "InstantID":
            _row_of_captures(report, heard)
    report.figures(bytes_of_captures=replay.statistics()["bytes"], said=list(dict.fromkeys(said)))


def cancel(report, settings):
    """Cancel is ComfyUI's InterruptProcessingException: here it comes from the identity's attention, at one block after the
    other of the first UNet calls, one of which is a capture."""
    from comfy.model_management import InterruptProcessingException
    from instantid_swift.identity.terms import IdentityStep
    world = _world(settings)
    wired = world.applied()
    ordinary = world.sample(*wired, steps=STEPS)
    attention = IdentityStep.__call__.__globals__["attention"]
    for at in (30, 90, 150, 210)[:None if settings.gpu else 1]:
        replay.drop_now()
        count = iter(range(at))

        def cancelled(*args, count=count, **kwargs):
            if next(count, None) is None:
                raise InterruptProcessingException()
            return attention(*args, **kwargs)
        IdentityStep.__call__.__globals__["attention"] = cancelled
        ended = False
        try:
            with contextlib.suppress(InterruptProcessingException):
                world.sample(*worlds.replayed(*wired), steps=STEPS)
                ended = True
        finally:
            IdentityStep.__call__.__globals__["attention"] = attention
        runs = [world.sample(*worlds.replayed(*wired), steps=STEPS) for _ in range(2 if settings.gpu else 1)]
        what = "the sampling ended before it" if ended else "cancelled"
        _row(report, f"after Cancel at block {at} ({what})", ordinary, runs)
    _row_of_captures(report, [])


def pressure(report, settings):
    """ComfyUI asked for all memory, as when it loads another large model."""
    import comfy.model_management as management
    world = _world(settings)
    wired = world.applied()
    ordinary, runs, heard = _runs(world, wired)
    _row(report, "before memory is short", ordinary, runs)
    _row_of_captures(report, heard)
    management.free_memory(1 << 60, world.device)
    captures = replay.statistics()["captures"]
    report.row("Captures go when ComfyUI needs the memory", f"{captures} captures left", not captures)
    ordinary, runs, _ = _runs(world, wired, again=2 if settings.gpu else 1)
    _row(report, "after memory was short", ordinary, runs)


def soak(report, settings):
    """Items whose size, LoRA, window, weight and batch change, and what is left of the GPU's memory."""
    world, choice = _world(settings), random.Random(0)
    models = [world.model, world.with_lora(1), world.with_lora(2)]
    side = world.cells()[0]
    sizes = [(side, side), (side * 3 // 2, side), (side, side * 2)]
    items = 50 if settings.gpu else 2

    def settle():
        world.sample(*world.applied(), steps=1)
        return worlds.forget()
    before, wrong = settle(), 0
    for item in range(items):
        wired = world.applied(model=choice.choice(models), weight=choice.uniform(0.3, 1.2),
                              window=choice.choice([(0.0, 1.0), (0.0, 0.5), (0.3, 1.0)]), text=item % 2, identity=item % 2)
        ordinary, runs, _ = _runs(world, wired, cells=choice.choice(sizes), batch=choice.choice([1, 1, 2]), seed=item)
        wrong += not torch.equal(ordinary, runs[0])
        report.figures(items=item + 1, wrong=wrong)
    del wired
    left = settle() - before
    report.row(f"{items} mixed items: replayed equals ordinary", f"{wrong} differ", not wrong)
    report.row("Memory is back where it began", f"{left / 1e6:.1f} MB more" if settings.gpu else
               f"{replay.statistics()['captures']} captures left; a CPU's memory is not measured",
               left <= 0 if settings.gpu else not replay.statistics()["captures"])
