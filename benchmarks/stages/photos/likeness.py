"""Likeness and time of each way to apply InstantID, on the same photos and seeds.

With --checkpoint, --control-net, --adapter, --networks and --photos it measures one's own models. Without them it runs on the
miniature, to see that all works: there the numbers mean nothing.
"""

import tempfile
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import numpy as np
import torch
from oracle import fixtures as fx

from benchmarks.support import common

PROMPT, NEGATIVE = "portrait photo of a person in a sunlit garden, 85 mm, natural colours", "blurry, deformed, text, watermark"
SETTINGS = {"ip_weight": 0.8, "cn_strength": 0.8, "start_at": 0.0, "end_at": 1.0, "noise": 0.35, "combine_embeds": "average"}
REFERENCE, PHOTO_SIDE = "as original", 1024  # the way that the others are compared with; pixels
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
COLUMNS = ("mean", "least", "most", "without a face", "ms per step")
OWN = ("checkpoint", "control_net", "adapter", "networks", "photos")


def add_arguments(parser):
    parser.add_argument("--checkpoint", type=Path, help="an SDXL checkpoint")
    parser.add_argument("--control-net", type=Path, help="InstantID's ControlNet")
    parser.add_argument("--adapter", type=Path, help="InstantID's ip-adapter.bin")
    parser.add_argument("--networks", type=Path, help="a folder with models/antelopev2")
    parser.add_argument("--photos", type=Path, help="a folder with photos of one person")
    parser.add_argument("--seeds", type=int, help="how many; default: 8, of --quick 2")
    parser.add_argument("--steps", type=int, help="default: 30, of the miniature 2")


def run(arguments):
    given = [name for name in OWN if getattr(arguments, name)]
    if given and len(given) < len(OWN):
        missing = ", ".join("--" + name.replace("_", "-") for name in OWN if name not in given)
        raise SystemExit(f"To measure one's own models, {missing} must be given, too.")
    with tempfile.TemporaryDirectory() as scratch:
        world = own_world(arguments) if given else miniature_world(Path(scratch))
        steps = arguments.steps or (30 if given else 2)
        resolution = arguments.resolution or (1024 if given else 128)
        seeds = range(1, 1 + (arguments.seeds or (2 if arguments.quick else 8)))
        figures = {name: measure(world, wired, seeds, steps, resolution // 8) for name, wired in ways(world)}
    if not given:
        print("The miniature: these numbers mean nothing.")
    common.print_table(["", *COLUMNS], [[name, *("-" if row[key] is None else f"{row[key]:.3f}" for key in COLUMNS)]
                                        for name, row in figures.items()])
    return {"ways": figures, "own models": bool(given), "steps": steps, "resolution": resolution, "seeds": len(seeds)}


def ways(world):
    """(name, (model, positive, negative)) of each way."""
    from instantid_swift import NODE_CLASS_MAPPINGS as nodes
    from instantid_swift.identity import SELECTIONS
    from instantid_swift.options import DEFAULTS

    def applied(options=DEFAULTS):
        return nodes["ApplyInstantIDAdvanced"]().apply_instantid(
            instantid=world.adapter, insightface=world.analysis, control_net=world.net, image=world.photos, model=world.model,
            positive=world.positive, negative=world.negative, options=options, **SETTINGS)
    model, positive, negative = applied()
    yield REFERENCE, (model, positive, negative)
    for name in SELECTIONS:
        if name != REFERENCE:
            yield f"blocks: {name}", applied(DEFAULTS._replace(blocks=name))
    for every in (2, 3):
        yield f"step reuse {every}", (model, *nodes["InstantIDStepReuse"]().reuse(positive, negative, every=every))
    if torch.cuda.is_available():  # without one, both are as original
        yield "fused", applied(DEFAULTS._replace(attention="fused"))
        yield "replay", nodes["InstantIDReplay"]().replay(model, positive, negative)


def measure(world, wired, seeds, steps, cells):
    """Figures of one way: likeness over the seeds, and milliseconds of a step."""
    from instantid_swift.likeness.measure import likeness
    latents = []

    def sample(seed):
        latents.append(fx.sample(*wired, size=(cells, cells), steps=steps, seed=seed))
    sample(seeds[0])  # warm up
    latents.clear()
    seconds = [common.side_by_side({"": lambda seed=seed: sample(seed)}, 1, warmup=0)[""] for seed in seeds]
    pictures = torch.cat([world.vae.decode(latent)[..., :3].float().cpu() for latent in latents])
    measured = likeness(world.analysis, pictures, world.photos)
    numbers = [value for value in measured.values if value is not None]
    return {"mean": mean(numbers) if numbers else None, "least": min(numbers, default=None), "most": max(numbers, default=None),
            "without a face": measured.values.count(None), "ms per step": 1000 * mean(seconds) / steps}


def read_photos(paths):
    """Photos of any sizes as one IMAGE [n, 1024, 1024, 3]: scaled to fit, with grey margins."""
    from PIL import Image, ImageOps
    pictures = []
    for path in paths:
        with Image.open(path) as photo:
            photo = ImageOps.exif_transpose(photo).convert("RGB")
        padded = ImageOps.pad(photo, (PHOTO_SIDE, PHOTO_SIDE), color="gray")
        pictures.append(torch.from_numpy(np.asarray(padded, dtype=np.float32) / 255))
    return torch.stack(pictures)


def own_world(arguments):
    import comfy.controlnet
    import comfy.sd
    from instantid_swift.faces import open_face_analysis
    from instantid_swift.identity import load_adapter
    from nodes import CLIPTextEncode
    paths = sorted(path for path in arguments.photos.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"There is no photo in {arguments.photos}.")
    model, clip, vae = comfy.sd.load_checkpoint_guess_config(str(arguments.checkpoint))[:3]
    positive, negative = (CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, NEGATIVE))
    return SimpleNamespace(model=model, vae=vae, net=comfy.controlnet.load_controlnet(str(arguments.control_net)),
                           adapter=load_adapter(str(arguments.adapter)), positive=positive, negative=negative,
                           analysis=open_face_analysis([str(arguments.networks)], "CPU"), photos=read_photos(paths))


def miniature_world(folder):
    import environment
    from instantid_swift.faces import open_face_analysis
    from instantid_swift.identity import load_adapter
    from serving import miniature
    torch.save(fx.instantid_checkpoint(), folder / "ip-adapter.bin")
    return SimpleNamespace(
        model=fx.mini_sdxl(), net=fx.mini_identity_net(), vae=miniature.Vae(), positive=fx.conditioning(11),
        negative=fx.conditioning(12), adapter=load_adapter(str(folder / "ip-adapter.bin")),
        analysis=open_face_analysis([str(environment.MODELS / "insightface")], "CPU"),
        photos=read_photos(sorted(environment.PEOPLE.glob("obama*.jpg"))))
