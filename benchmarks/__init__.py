"""Benchmarks: `python -m benchmarks STAGE`. Ratios, side by side, medians of several rounds, after a warm-up."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
