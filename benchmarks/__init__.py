"""Benchmarks: `python -m benchmarks STAGE`. Ratios, side by side, medians of several rounds, after a warm-up."""
