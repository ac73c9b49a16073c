"""CUDA graphs of a sampling's calls. In: a MODEL and its CONDITIONING. Out: the same, whose UNet and IdentityNet calls are
captured once and replayed, where that gives the same picture; elsewhere the ordinary calls run.
"""

from .graphs import drop_all, drop_now, statistics

__all__ = ["drop_all", "drop_now", "statistics"]
