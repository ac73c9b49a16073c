"""Nodes that tell about the pack itself."""

from comfy.comfy_types import IO
from nodes import PreviewImage

from .. import caches, replay, timing
from ..host import server
from ..host.inputs import checked
from .chart import chart
from .report import report
from .table import table_of_caches

CATEGORY = "InstantID/tools"


def _shown(text, *pictures):
    """What a node shows on itself: a text, and pictures (IMAGE) from ComfyUI's folder of temporary files."""
    images = [shown for picture in pictures for shown in PreviewImage().save_images(picture, "InstantID")["ui"]["images"]]
    return {"text": [text], **({"images": images} if images else {})}


def _mebibytes(cache):
    return ("INT", {"default": cache.default_budget // caches.MIB, "min": 0, "max": 65536,
                    "tooltip": f"How much memory the cache '{cache.name}' may take, in MiB."})


class InstantIDCache:
    DESCRIPTION = ("Shows what InstantID keeps between runs to save time: how much memory it takes and "
                   "how often it helped. Here you can also set how much it may take, or clear it. Without this node the "
                   "limits are the ones that you see at first.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["clear cache", "free memory", "unload", "instantid memory"]
    RETURN_TYPES = (IO.ANY, "STRING")
    RETURN_NAMES = ("anything", "report")
    OUTPUT_TOOLTIPS = ("The input, unchanged.", "A table with a line for each cache.")
    FUNCTION = "manage"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clear": ("BOOLEAN", {"default": False, "tooltip": "Forgets all that is kept, each time this node runs."}),
                "record_timings": ("BOOLEAN", {"default": False, "tooltip": (
                    "Measures the time of every run from the next one on, for the history of InstantID Performance Report.")}),
                **{cache.name: _mebibytes(cache) for cache in caches.ALL},
            },
            "optional": {"anything": (IO.ANY, {"tooltip": (
                "Goes through this node unchanged. Connect something here to choose when this node runs.")})},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    @checked
    def manage(self, clear, record_timings, anything=None, **mebibytes):
        if clear:
            server.release_memory()
        for cache in caches.ALL:
            cache.budget = mebibytes.get(cache.name, cache.default_budget // caches.MIB) * caches.MIB
        timing.record_always(record_timings)
        report = table_of_caches(caches.statistics(), replay.statistics())
        return {"ui": _shown(report), "result": (anything, report)}


def _undo_settings():
    """What the pack does without the node InstantID Cache."""
    for cache in caches.ALL:
        cache.budget = cache.default_budget
    timing.record_always(False)


server.when_missing(InstantIDCache.__name__, _undo_settings)


class InstantIDPerformanceReport:
    DESCRIPTION = ("Shows how long each step of InstantID took in this run, how much memory, and what came from its caches, as "
                   "a table and a chart. Nothing is measured in workflows without this node.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["profiler", "benchmark", "timing", "speed", "why slow"]
    RETURN_TYPES = (IO.ANY, "STRING", "IMAGE", "STRING")
    RETURN_NAMES = ("anything", "table", "chart", "history")
    OUTPUT_TOOLTIPS = ("The input, unchanged.",
                       "The steps in the order in which they began, with a warning where one took more than three times as "
                       "long as usual.",
                       "A chart of the time of each step without the steps inside of it: wall time, and GPU time where it was "
                       "measured.",
                       "All runs of this session as JSON: how often each step ran, and the median (p50), the 95th percentile "
                       "(p95) and the last of its seconds per call.")
    FUNCTION = "report"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True  # one report, and lists go through whole
    OUTPUT_IS_LIST = (True, False, False, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (IO.ANY, {"tooltip": (
            "Connect the last thing that is made, such as the pictures: what runs later is not in the report. This node runs "
            "every time, and so does what its first output is connected to.")})}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # unlike itself: there is something new to tell even where nothing has changed

    def report(self, anything):
        made = report()
        picture = chart(made.rows)
        return {"ui": _shown(made.table, picture), "result": (anything, made.table, picture, made.history)}
