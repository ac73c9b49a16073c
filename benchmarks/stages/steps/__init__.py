"""Sampling: the time of a step, what it reads and copies, what clones and re-runs add."""
