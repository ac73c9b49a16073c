"""What stages share: their settings, the report that they write, models with random weights, ways to sample them."""

import dataclasses
import gc
import importlib
import json
import logging
import sys
from pathlib import Path

from . import DYNAMIC, absent

CHECKOUT = Path(__file__).resolve().parent.parent.parent
WEIGHT = 0.8
KEYPOINTS = [[190, 220], [320, 220], [256, 300], [205, 370], [310, 370]]
FULL_SIZE_BYTES = 4.5e9  # per byte of the dtype: SDXL's UNet and IdentityNet with what sampling takes


class Report:
    """What a stage found; written to its file after each line, so that a stage that is ended has not lost all."""

    def __init__(self, path):
        self._path, self._rows, self._figures, self._finished = path, [], {}, False

    def row(self, must, found, holds):
        """must: what must hold. found: in words. holds: True, False, or None where it could not be told."""
        self._rows.append({"must": must, "found": str(found), "holds": None if holds is None else bool(holds)})
        self._write()

    def figures(self, **figures):
        self._figures.update(figures)
        self._write()

    def finish(self):
        self._finished = True
        self._write()

    def _write(self):
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"rows": self._rows, "figures": self._figures, "finished": self._finished}, default=str))
        partial.replace(self._path)


@dataclasses.dataclass
class Settings:
    """How a stage runs. device: "cuda" or "cpu". memory: one of gpu_stages.ALL, None on a CPU. comfyui: its folder. work: a
    folder for files that stages share."""
    device: str
    comfyui: str
    work: str
    memory: str | None = None
    baseline: str | None = None

    @property
    def gpu(self):
        """Whether it runs at full size, with all cases."""
        return self.device != "cpu"

    def prepare(self):
        """Imports ComfyUI, as on a user's machine without --cpu, and the pack. On a CPU recordings stand for CUDA graphs.

        Returns why it cannot be had, in words, or None.
        """
        sys.path[:0] = [str(CHECKOUT / "tests")]
        sys.path.append(str(CHECKOUT))
        absent.stand_in()
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        import runtime
        runtime.use_comfyui(self.comfyui, "--disable-auto-launch" if self.gpu else "--cpu")
        if self.memory == DYNAMIC and not start_dynamic_vram():
            return "this ComfyUI, PyTorch or comfy-aimdo has no dynamic VRAM here"
        runtime.import_pack()
        import torch
        torch.manual_seed(0)
        torch.backends.cudnn.allow_tf32 = False
        return None

    def size_for(self, dtype):
        """"full" where the device has room for it, else "miniature"."""
        if not self.gpu:
            return "miniature"
        import torch
        return "full" if torch.cuda.mem_get_info()[0] > FULL_SIZE_BYTES * dtype.itemsize else "miniature"


def start_dynamic_vram():
    """Does what ComfyUI's main.py does for dynamic VRAM; whether it runs."""
    import comfy.model_management
    import comfy.model_patcher
    try:
        import comfy.memory_management  # older versions of ComfyUI have none
        import comfy_aimdo.control as aimdo
    except ImportError:
        return False
    if isinstance(aimdo, absent.Anything) or not hasattr(comfy.model_patcher, "ModelPatcherDynamic") \
            or not comfy.model_management.is_nvidia() or comfy.model_management.torch_version_numeric < (2, 8):
        return False
    device = comfy.model_management.get_torch_device()
    if not (aimdo.init() and aimdo.init_devices([(device.index, 0)])):
        return False
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
    return True


def benchmark(name):
    """A module of the benchmarks, wherever in their folder it lies."""
    path = next((CHECKOUT / "benchmarks").rglob(f"{name}.py"))
    return importlib.import_module(".".join(path.relative_to(CHECKOUT).with_suffix("").parts))


class World:
    """A UNet and an IdentityNet with random weights, two texts, two faces, and the ways to wire them."""

    def __init__(self, settings, dtype, net=True):
        import torch
        from oracle import fixtures as fx
        models = benchmark("models")
        self.settings, self.dtype, self.device = settings, dtype, torch.device(settings.device)
        self.size = settings.size_for(dtype)
        self.model = models.unet(self.size, self.device, dtype)
        self.net = models.identity_net(self.size, self.device, dtype) if net else None
        self.texts = [(fx.conditioning(seed), fx.conditioning(seed + 1)) for seed in (11, 21)]
        self.adapter = adapter(settings, self.size)
        self.identities = [identity(self.adapter, seed, dtype) for seed in (5, 6)]

    def cells(self):
        return (64, 64) if self.size == "full" else (8, 8)

    def patched(self, model=None, identity=0, weight=WEIGHT, window=(0.0, 1.0), mask=None):
        from instantid_swift.CrossAttentionPatch import patch_model
        from instantid_swift.identity.blocks import factors_of_blocks
        return patch_model(model or self.model, self.identities[identity], weight, *window, mask,
                           factors=factors_of_blocks("as original"))

    def applied(self, model=None, text=0, identity=0, weight=WEIGHT, window=(0.0, 1.0), mask=None):
        """(model, positive, negative) after Apply InstantID without its face networks."""
        import torch
        from instantid_swift.controlnet.conditioning import apply_identity_net
        hint = torch.zeros(1, 512, 512, 3)
        for number, (x, y) in enumerate(KEYPOINTS):
            hint[0, y - 10:y + 10, x - 10:x + 10, number % 3] = 1.0
        tokens = self.identities[identity].tokens(self.adapter.device)
        return (self.patched(model, identity, weight, window, mask),
                *apply_identity_net(*self.texts[text], self.net, hint, *tokens, weight, *window))

    def sample(self, model, positive=None, negative=None, cells=None, **sampling):
        """Latents on the CPU."""
        from oracle import fixtures as fx
        positive, negative = positive or self.texts[0][0], negative or self.texts[0][1]
        return fx.sample(model, positive, negative, size=cells or self.cells(), **sampling).cpu()


def adapter(settings, size):
    """An adapter with random weights; its file is made once for all stages."""
    import torch
    from instantid_swift.identity.adapter import load_adapter
    from oracle import fixtures as fx
    path = Path(settings.work) / f"ip-adapter-{size}.bin"
    if not path.exists():
        torch.save(fx.instantid_checkpoint(channels=benchmark("models").adapter_channels(size)), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return load_adapter(str(path))


def embeddings(seed):
    """(cond, uncond): float32 [1, 1, 512]."""
    import torch
    from instantid_swift.identity.bank import unconditional_embedding
    cond = 20 * torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(seed))
    return cond, unconditional_embedding(cond, 0.35)


def identity(adapter, seed, dtype):
    return adapter.identity(*embeddings(seed), dtype)


def forget():
    """Unloads all models and gives memory back; bytes that are still allocated on the GPU."""
    import comfy.model_management
    import torch
    from instantid_swift.host import server
    comfy.model_management.unload_all_models()
    server.release_memory()
    gc.collect()
    comfy.model_management.soft_empty_cache()
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
