"""Stand-ins for packages that ComfyUI and the pack import and that a machine with torch and numpy alone lacks.

What the stages compute does not need them: most are only imported. Where a package is installed, it is used.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path

# roots of packages that are imported, and whose contents nothing here needs
ONLY_IMPORTED = (
    "PIL", "aiohttp", "av", "comfy_aimdo", "comfy_kitchen", "einops", "kornia", "safetensors", "scipy", "sentencepiece",
    "spandrel", "tokenizers", "torchaudio", "torchsde", "torchvision", "tqdm", "transformers", "yaml", "cv2", "psutil",
    "xxhash",
    "cachetools", "requests", "alembic", "sqlalchemy", "pydantic", "pydantic_settings", "glslang", "OpenGL", "blake3", "onnx",
    "simpleeval", "huggingface_hub", "filelock", "regex", "soundfile", "trampoline", "skimage", "packaging")


class Anything(types.ModuleType):
    """A module, class or function that can be asked for any name and called with anything."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (AnyClass,), {})
        setattr(self, name, found)
        return found


class AnyMeta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return AnyClass


class AnyClass(metaclass=AnyMeta):
    """In place of a class, decorator or function of an absent package."""

    def __new__(cls, *args, **kwargs):
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return AnyClass

    def __call__(self, *args, **kwargs):
        return AnyClass(*args, **kwargs)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last: what is installed has been found before."""

    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in ONLY_IMPORTED and (root == name or isinstance(sys.modules.get(root), Anything)):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Anything(spec.name)

    def exec_module(self, module):
        fill = WITH_CONTENT.get(module.__name__)
        if fill is not None:
            fill(module)


def stand_in():
    """From now on the packages can be imported."""
    sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "wheels"))  # of the bundle, unpacked
    sys.meta_path.append(Finder())


def _xxhash(module):
    def of(data=b""):
        return hashlib.blake2b(data, digest_size=16)
    module.xxh3_128_digest = lambda data: of(data).digest()
    module.xxh3_128_hexdigest = lambda data: of(data).hexdigest()
    module.xxh3_128 = of


def _safetensors(module):
    """Reading alone. The format: length of the header (8 bytes, little endian), a header in JSON, the tensors' bytes."""
    def load(data):
        import torch
        types_ = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "U8": torch.uint8,
                  "I64": torch.int64, "I32": torch.int32}
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + length])
        header.pop("__metadata__", None)
        found = {}
        for name, about in header.items():
            start, end = (8 + length + offset for offset in about["data_offsets"])
            flat = torch.frombuffer(bytearray(data[start:end]), dtype=types_[about["dtype"]])
            found[name] = flat.reshape(about["shape"])
        return found
    module.load = load
    module.load_file = lambda path, device="cpu": load(Path(path).read_bytes())


def _psutil(module):
    def virtual_memory():
        import os
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
        return types.SimpleNamespace(total=total, available=total // 2, free=total // 2, used=total // 2)
    module.virtual_memory = virtual_memory
    module.swap_memory = virtual_memory
    module.Process = lambda: types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=0))


def _cv2(module):
    """Colours by numpy; drawings are squares at the points, which are pictures enough for times."""
    module.COLOR_RGB2BGR, module.COLOR_BGR2RGB, module.COLOR_GRAY2BGR = 4, 4, 8

    def colours(picture, kind):
        return picture.repeat(3, axis=2) if kind == module.COLOR_GRAY2BGR else picture[:, :, ::-1].copy()

    def circle(canvas, centre, radius, colour, thickness=1):
        x, y = centre
        canvas[max(y - radius, 0):y + radius, max(x - radius, 0):x + radius] = colour
        return canvas
    module.cvtColor, module.circle = colours, circle
    module.ellipse2Poly = lambda *args: None
    module.fillConvexPoly = lambda canvas, *args: canvas


def _tqdm(module):
    class Bar:
        def __init__(self, iterable=(), *args, **kwargs):
            self.iterable = iterable

        def __iter__(self):
            return iter(self.iterable)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        def __getattr__(self, name):
            return lambda *args, **kwargs: None
    module.tqdm, module.trange = Bar, lambda count, *args, **kwargs: Bar(range(count))



WITH_CONTENT = {"xxhash": _xxhash, "safetensors.torch": _safetensors, "psutil": _psutil, "cv2": _cv2, "tqdm": _tqdm,
                "tqdm.auto": _tqdm}
