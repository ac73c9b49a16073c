"""A stand-in for the original pack, ComfyUI_InstantID: what ours is measured against where the original is not at hand.

It is written from the contract and from what was measured of the original, not from its code: the Apply nodes with the same
results, and the original's way to get them. The adapter is read into modules that were filled with random weights first,
and stays on the device, unknown to ComfyUI; every Apply analyses the photos anew for the embedding and again for the
keypoints, with all networks of the folder; every attention block reads the noise level and projects the identity tokens at
every call. Nothing is kept. `--baseline PATH` of the benchmarks measures a real pack instead.
"""

import importlib.util

if importlib.util.find_spec("folder_paths") is not None:  # faces.py works without ComfyUI
    from .nodes import NODE_CLASS_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS"]
