"""Lets the tests of a process run with another insightface than the installed one: its source, not built.

What insightface 0.7.3 imports for its mask renderer alone is stood in for: a compiled extension, albumentations, matplotlib.
"""

import sys
import types

STAND_INS = {
    "insightface.thirdparty.face3d.mesh.cython.mesh_core_cython": [],
    "albumentations": [], "albumentations.core": [], "albumentations.core.transforms_interface": ["ImageOnlyTransform"],
    "matplotlib": [], "matplotlib.pyplot": [], "mpl_toolkits": [], "mpl_toolkits.mplot3d": ["Axes3D"],
}


def use(folder):
    """folder: where a package `insightface` lies. To be called before anything has imported insightface."""
    sys.path.insert(0, str(folder))
    for name, contents in STAND_INS.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(dict.fromkeys(contents, object))
    import insightface
    if not insightface.__file__.startswith(str(folder)):
        raise RuntimeError(f"insightface is {insightface.__file__}, not the one in {folder}")
