"""A step of sampling: the plain UNet, with IdentityNet, with the identity's term, with all of Apply InstantID."""

import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from oracle import fixtures as fx

from benchmarks import baseline, common, models

PLAIN, TERM, APPLY = "plain UNet", "term", "Apply InstantID"  # TERM: the identity's, without IdentityNet
COLUMNS = ("ms per step", "ratio to plain", "host reads", "linear layers", "launches", "largest difference")
WEIGHT, NOISE = 0.8, 0.35  # what Apply InstantID has
KEYPOINTS = [[190, 220], [320, 220], [256, 300], [205, 370], [310, 370]]


def run(arguments):
    gpu = torch.cuda.is_available()
    size = arguments.size or ("full" if gpu and not arguments.quick else "miniature")
    resolution = arguments.resolution or (1024 if size == "full" else 128 if arguments.quick else 256)
    world = World(size, torch.device("cuda" if gpu else "cpu"),
                  getattr(torch, arguments.dtype or ("float16" if gpu else "float32")))
    variants = dict(world.variants(arguments))
    figures = {f"batch {batch}": measure(variants, arguments, resolution // 8, batch) for batch in arguments.batch_sizes}
    print(f"Host reads, linear layers and launches: per step, beyond those of the plain UNet. Difference: of latents, from "
          f"the {baseline.title(arguments)}'s.\nK and V kept for an identity: {world.identity.bytes / 1e6:.2f} MB.")
    return {**figures, "bytes of K and V": world.identity.bytes, "dtype": str(world.dtype), "size": size,
            "resolution": resolution}


def measure(variants, arguments, cells, batch):
    """The figures of each variant, for a batch of latents of cells x cells; printed as a table."""
    def sample(model, positive, negative):
        return fx.sample(model, positive, negative, size=(cells, cells), batch=batch, steps=arguments.steps)

    latents = {name: sample(*wired).float().cpu() for name, wired in variants.items()}
    seconds = common.side_by_side({name: lambda wired=wired: sample(*wired) for name, wired in variants.items()},
                                  arguments.iterations, warmup=0)
    counts = {name: count(lambda wired=wired: sample(*wired), arguments.steps) for name, wired in variants.items()}
    figures, theirs = {}, baseline.title(arguments)
    for name in variants:
        figures[name] = {"ms per step": 1000 * seconds[name] / arguments.steps,
                         "ratio to plain": seconds[name] / seconds[PLAIN],
                         **{key: counts[name][key] - counts[PLAIN][key] for key in counts[PLAIN]}}
        what = name.partition(",")[0]
        if what in (TERM, APPLY):
            figures[name]["largest difference"] = (latents[name] - latents[f"{what}, {theirs}"]).abs().max().item()
    print(f"\nA step of sampling, batch {batch}")
    common.print_table(["", *COLUMNS], [[name, *(f"{row[key]:g}" if key in row else "-" for key in COLUMNS)]
                                        for name, row in figures.items()])
    return figures


def count(function, steps):
    """Host reads, linear layers and, on a GPU, kernel launches per step."""
    profile = common.profile(function)
    events = Counter(event.name for event in profile.events())
    found = {"host reads": events["aten::_local_scalar_dense"] / steps, "linear layers": events["aten::linear"] / steps}
    if torch.cuda.is_available():
        found["launches"] = sum(number for name, number in events.items() if "LaunchKernel" in name) / steps
    return found


class World:
    """Models with random weights, one random face, and the ways to wire them. The face networks are not part of it."""

    def __init__(self, size, device, dtype):
        from instantid_swift.identity.adapter import load_adapter
        from instantid_swift.identity.bank import unconditional_embedding

        self.dtype = dtype
        self.model, self.net = models.unet(size, device, dtype), models.identity_net(size, device, dtype)
        self.positive, self.negative = fx.conditioning(11), fx.conditioning(12)
        self.embedding = 20 * torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(5))
        self.folder = tempfile.TemporaryDirectory()
        self.adapter_file = Path(self.folder.name) / "ip-adapter.bin"
        torch.save(fx.instantid_checkpoint(channels=models.adapter_channels(size)), self.adapter_file)
        self.adapter = load_adapter(str(self.adapter_file))
        self.identity = self.adapter.identity(self.embedding, unconditional_embedding(self.embedding, NOISE), dtype)

    def variants(self, arguments):
        """(name, (model, positive, negative)) of each way."""
        from instantid_swift.controlnet.conditioning import apply_identity_net
        from instantid_swift.CrossAttentionPatch import patch_model
        from instantid_swift.identity.blocks import SELECTIONS, factors_of_blocks
        factors = factors_of_blocks("as original")
        exact = patch_model(self.model, self.identity, WEIGHT, 0.0, 1.0, factors=factors)
        text = self.positive, self.negative
        tokens = self.identity.tokens(self.adapter.device)
        control = apply_identity_net(*text, self.net, self.hint(), *tokens, WEIGHT, 0.0, 1.0)
        yield PLAIN, (self.model, *text)
        theirs, *their_control = self.apply_baseline(arguments)
        yield f"{TERM}, {baseline.title(arguments)}", (theirs, *text)
        yield f"{TERM}, exact", (exact, *text)
        yield "UNet and IdentityNet", (self.model, *control)
        yield f"{APPLY}, {baseline.title(arguments)}", (theirs, *their_control)
        yield f"{APPLY}, exact", (exact, *control)
        if not arguments.quick:
            for name in SELECTIONS:
                blocks = patch_model(self.model, self.identity, WEIGHT, 0.0, 1.0, factors=factors_of_blocks(name))
                yield f"blocks: {name}", (blocks, *text)

    def hint(self):
        """A drawing of keypoints: IMAGE [1, 512, 512, 3]."""
        from instantid_swift.utils import draw_keypoints, pictures_to_image
        return pictures_to_image([draw_keypoints(512, 512, KEYPOINTS)])

    def apply_baseline(self, arguments, model=None):
        """Another pack's ApplyInstantID on the same inputs, or on another model."""
        import folder_paths
        nodes = baseline.node_classes(arguments)
        folder_paths.add_model_folder_path("instantid", self.folder.name)
        adapter, = nodes["InstantIDModelLoader"]().load_model(instantid_file=self.adapter_file.name)
        return nodes["ApplyInstantID"]().apply_instantid(
            instantid=adapter, insightface=OneFace(self.embedding), control_net=self.net, image=torch.rand(1, 512, 512, 3),
            model=model or self.model, positive=self.positive, negative=self.negative, start_at=0.0, end_at=1.0, weight=WEIGHT,
            noise=NOISE)


class OneFace:
    """A FACEANALYSIS that finds the same face everywhere, so that a baseline gets the embedding that we use."""

    def __init__(self, embedding):
        self.det_model = SimpleNamespace(input_size=(640, 640))
        self.embedding = embedding.flatten().numpy()

    def get(self, image):
        return [Face(bbox=np.array([100.0, 100.0, 400.0, 420.0]), kps=np.array(KEYPOINTS, dtype=np.float32),
                     embedding=self.embedding)]


class Face(dict):
    """insightface's faces are read as dictionaries and by attribute."""
    __getattr__ = dict.__getitem__
