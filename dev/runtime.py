"""Lets a real ComfyUI run in this process on the development environment, whatever torch it got.

A package index may give a CPU build of torch, while torchvision's compiled library was built against a CUDA one and
cannot be loaded, and torchaudio cannot be installed. ComfyUI imports both, but what the demo and the tests do needs
neither: two operators that torchvision wants to exist when it is imported, and an empty torchaudio, are enough.
Where the real ones work they are used. A user's ComfyUI needs none of this.
"""
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
STAND_IN_MODULES = ("torchaudio", "torchaudio.functional", "torchaudio.transforms")

_keep = []          # a torch.library.Library undoes its definitions when it is collected


def prepare() -> None:
    """Make torchvision and torchaudio importable. May be called more than once."""
    _define_torchvision_operators()
    _provide_torchaudio()


def import_pack(name: str = "instantid_swift", folder: Path = CHECKOUT) -> types.ModuleType:
    """This checkout, or another pack, as a package of the given name: by its path, as ComfyUI imports it."""
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    pack = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack


def use_comfyui(root: str | Path, *arguments: str) -> None:
    """Let `import nodes`, `import comfy...` find the ComfyUI at root, started as with these arguments (or --cpu).

    ComfyUI reads its command line when comfy.cli_args is imported. That is done here, so that it sees neither the
    arguments of this process nor, later, anything else.
    """
    if not (Path(root) / "comfy" / "options.py").is_file():     # else the tests' folder comfy/ would be imported
        raise RuntimeError(f"There is no ComfyUI in {root}.")
    prepare()
    sys.path.insert(0, str(Path(root).resolve()))
    import comfy.options
    comfy.options.enable_args_parsing()
    own, sys.argv = sys.argv, ["main.py", *(arguments or ("--cpu",))]
    try:
        import comfy.cli_args
    finally:
        sys.argv = own
    # main.py, too, imports it early: ComfyUI's nodes puts comfy/ first on the path, which has a module of that name
    importlib.import_module("utils")
    loaded = Path(comfy.cli_args.__file__).resolve().parent.parent
    if loaded != Path(root).resolve():
        raise RuntimeError(f"Another ComfyUI is loaded in this process already: {loaded}")


def _define_torchvision_operators() -> None:
    """torchvision::nms and ::qnms by schema only, unless torchvision's own library can be loaded."""
    import torch
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    for library in Path(found.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))
            return
        except (OSError, ImportError):      # built against another torch
            pass
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep.append(operators)


def _provide_torchaudio() -> None:
    """Importable empty modules under torchaudio's names, unless it is installed."""
    if "torchaudio" in sys.modules or importlib.util.find_spec("torchaudio"):
        return
    for name in STAND_IN_MODULES:
        module = types.ModuleType(name, "Stand-in of InstantID Swift's development tools.")
        # libraries ask importlib.util.find_spec, which refuses a loaded module without a spec
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=name == "torchaudio")
        module.__path__ = []
        module.__getattr__ = _missing(name)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _missing(module: str):
    def get(name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            raise RuntimeError(f"{module}.{name} was called, but torchaudio is a stand-in here.")
        return call
    return get
