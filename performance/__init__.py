"""The time and memory of the pack's stages, recorded in prompts that hold an InstantID Performance Report."""

from .stages import cache_result, run, stage, staged

__all__ = ["cache_result", "run", "stage", "staged"]
