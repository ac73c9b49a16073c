"""Our modules that hold the contract's formulas: embeddings, Resampler, masks, drawing, conditionings.

The stand-in runs inside a ComfyUI as a pack of its own, so it imports them by path, as a package under a private name.
"""

import importlib
import os
import sys
import types
from pathlib import Path

# dev/serving/server.py names the checkout: where links are not possible, this file is a copy outside of it
CHECKOUT = Path(os.environ.get("INSTANTID_CHECKOUT") or Path(__file__).resolve().parents[2])
PACKAGE = "instantid_swift_formulas"


def ours(module):
    """A module of the checkout; its `__init__`, which registers our nodes, is not run."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
        sys.modules[PACKAGE].__path__ = [str(CHECKOUT)]
    return importlib.import_module(f"{PACKAGE}.{module}")
