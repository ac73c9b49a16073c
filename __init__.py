"""InstantID Swift: InstantID for ComfyUI. Registers the nodes; the modules that compute import without ComfyUI too."""

import importlib.util

if importlib.util.find_spec("folder_paths") is not None:
    from .InstantID import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    WEB_DIRECTORY = "./web"  # help pages, and scripts for the editor

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
