"""The time and memory of the pack's stages, recorded in prompts that hold an InstantID Performance Report."""

from .stages import count_lookup, run, stage, staged

__all__ = ["count_lookup", "run", "stage", "staged"]
