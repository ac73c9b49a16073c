"""Nodes that tell about the pack itself."""

from comfy.comfy_types import IO

from .. import caches, replay, timing
from ..host import server
from .chart import chart
from .report import report
from .table import table_of_caches

CATEGORY = "InstantID"


def _mebibytes(cache):
    return ("INT", {"default": cache.default_budget // caches.MIB, "min": 0, "max": 65536,
                    "tooltip": f"MiB of memory that the cache '{cache.name}' may take."})


class InstantIDCache:
    DESCRIPTION = ("What InstantID keeps between runs, so that a moved slider costs nothing: how much it is, how often it "
                   "helped, how much it may be. Without this node it is what stands here at first.")
    CATEGORY = CATEGORY
    RETURN_TYPES = (IO.ANY, "STRING")
    RETURN_NAMES = ("anything", "report")
    OUTPUT_TOOLTIPS = ("The input, unchanged.", "A line for each cache.")
    FUNCTION = "manage"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clear": ("BOOLEAN", {"default": False, "tooltip": "Forget everything, each time this node runs."}),
                "record_timings": ("BOOLEAN", {"default": False, "tooltip": (
                    "Time the stages of all runs from the next one on, for the history in InstantID Performance Report.")}),
                **{cache.name: _mebibytes(cache) for cache in caches.ALL},
            },
            "optional": {"anything": (IO.ANY, {"tooltip": "Passed on; this node runs after it is made."})},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    def manage(self, clear, record_timings, anything=None, **mebibytes):
        if clear:
            server.release_memory()
        for cache in caches.ALL:
            cache.budget = mebibytes.get(cache.name, cache.default_budget // caches.MIB) * caches.MIB
        timing.record_always(record_timings)
        report = table_of_caches(caches.statistics(), replay.statistics())
        return {"ui": {"text": [report]}, "result": (anything, report)}


def _undo_settings():
    """What the pack does without the node InstantID Cache."""
    for cache in caches.ALL:
        cache.budget = cache.default_budget
    timing.record_always(False)


server.when_missing(InstantIDCache.__name__, _undo_settings)


class InstantIDPerformanceReport:
    DESCRIPTION = ("Time, memory and cache results of InstantID's stages in this run, as a table and a chart. Only while this "
                   "node is in the workflow is anything measured.")
    CATEGORY = CATEGORY
    RETURN_TYPES = (IO.ANY, "STRING", "IMAGE", "STRING")
    RETURN_NAMES = ("anything", "table", "chart", "history")
    OUTPUT_TOOLTIPS = ("The input, unchanged.",
                       "The stages in the order in which they began, with a warning where one took more than three times its "
                       "median.",
                       "The time of each stage without the stages inside of it: wall time, and GPU time where it was measured.",
                       "The runs of this session as JSON: for each stage in how many it ran, and the median (p50), the 95th "
                       "percentile (p95) and the last of its seconds per call.")
    FUNCTION = "report"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True  # one report, and lists go through whole
    OUTPUT_IS_LIST = (True, False, False, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (IO.ANY, {"tooltip": (
            "The last thing made, such as the pictures: what runs later is not in the report. This node runs every time, and "
            "so does what its first output is connected to.")})}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # unlike itself: there is something new to tell even where nothing has changed

    def report(self, anything):
        made = report()
        return {"ui": {"text": [made.table]},
                "result": (anything, made.table, chart(made.rows), made.history)}
