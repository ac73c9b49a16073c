"""What all rings share: the pack, imported as ComfyUI imports it; ComfyUI where the ring has one; photos and networks.

INSTANTID_DEV is the folder that `python dev/test.py` has set up, INSTANTID_COMFYUI the ComfyUI of this run (none for the
pure ring). INSTANTID_INSIGHTFACE is the folder of another insightface than the installed one.
"""

import gc
import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
DEV = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev"))
COMFYUI = os.environ.get("INSTANTID_COMFYUI")

sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "dev")]
sys.path.append(str(CHECKOUT))  # for the package `benchmarks`; behind ComfyUI, which has modules of the same names as ours

import pins  # noqa: E402
import runtime  # noqa: E402

if os.environ.get("INSTANTID_INSIGHTFACE"):
    from stand_ins import old_insightface
    old_insightface.use(os.environ["INSTANTID_INSIGHTFACE"])

if COMFYUI:
    runtime.use_comfyui(COMFYUI)
    import nodes  # noqa: F401  ComfyUI's, whose registry the pack looks at


pack = runtime.import_pack()
gc.collect()
gc.freeze()  # half a million objects of modules, which no garbage collection of a test needs to look at


def pytest_collection_modifyitems(config, items):
    """Leaves out, on older versions of ComfyUI, what is marked as the newest's."""
    if not COMFYUI or pins.NEWEST_COMFYUI in COMFYUI:
        return
    left_out = [item for item in items if item.get_closest_marker("newest")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def empty_caches():
    """No test gets what another one has computed."""
    from instantid_swift import caches
    caches.clear()


@pytest.fixture(scope="session")
def face_root():
    """A folder with models/antelopev2, as ComfyUI/models/insightface is."""
    return DEV / "models" / "insightface"


@pytest.fixture(scope="session")
def face_files():
    """A folder with the trained face networks and photos as they were downloaded."""
    return DEV / "face_models"


@pytest.fixture(scope="session")
def ours(face_root):
    """FACEANALYSIS from our node."""
    from instantid_swift.faces.analysis import open_face_analysis
    return open_face_analysis([str(face_root)], "CPU")


class Counted:
    """A network whose runs are counted; `shapes` has the input's of each."""

    def __init__(self, session):
        self.session, self.shapes = session, []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, output_names, inputs):
        self.shapes += [value.shape for value in inputs.values()]
        return self.session.run(output_names, inputs)

    @property
    def runs(self):
        return len(self.shapes)


def count_runs(analysis):
    """(detector, embedder) of one of our analyses, counted from now on."""
    detector = analysis.det_model.detector.session = Counted(analysis.det_model.session)
    embedder = analysis.models["recognition"].session = Counted(analysis.models["recognition"].session)
    return detector, embedder


@pytest.fixture
def counted(face_root):
    """(analysis, detector, embedder), newly opened, and nothing known of any picture."""
    from instantid_swift import caches
    from instantid_swift.faces.analysis import open_face_analysis
    caches.clear()
    analysis = open_face_analysis([str(face_root)], "CPU")
    return analysis, *count_runs(analysis)
