"""What all rings share: the pack, imported as ComfyUI imports it; ComfyUI where the ring has one; photos and networks.

INSTANTID_DEV is the folder that `python dev/test.py` has set up, INSTANTID_COMFYUI the ComfyUI of this run (none for the
pure ring).
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
DEV = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev"))
COMFYUI = os.environ.get("INSTANTID_COMFYUI")

sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "dev")]

if COMFYUI:
    import runtime
    runtime.use_comfyui(COMFYUI)
    import nodes  # noqa: F401  ComfyUI's, whose registry the pack looks at


def import_pack(name="instantid_swift"):
    """The checkout as a package of the given name: by its path, as ComfyUI does."""
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "__init__.py", submodule_search_locations=[str(CHECKOUT)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    return pack


pack = import_pack()


@pytest.fixture(autouse=True)
def empty_caches():
    """No test gets what another one has computed."""
    from instantid_swift import caches
    caches.clear()


@pytest.fixture(scope="session")
def face_root():
    """A folder with models/antelopev2, as ComfyUI/models/insightface is."""
    return DEV / "models" / "insightface"
