"""How long the pack's stages take and what memory they need, where somebody asks for it.

In: `with stage(name)` around a stage of the work. Out: a `Row` for each stage of a run, and the session's history.
"""

from .stages import cache_result, record_always, run, stage, staged

__all__ = ["cache_result", "record_always", "run", "stage", "staged"]
