"""The nodes that show the pack's caches and the times of its stages."""

from comfy.comfy_types import IO

from .. import caches
from ..host import server
from .stages import last_run, table_of_caches, table_of_stages

CATEGORY = "InstantID/tools"


class InstantIDCache:
    DESCRIPTION = ("Shows what InstantID keeps between runs to save time: how much memory it takes and how often it helped. "
                   "Here you can also clear it.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["clear cache", "free memory", "unload", "instantid memory", "清除缓存"]
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
            },
            "optional": {"anything": (IO.ANY, {"tooltip": (
                "Goes through this node unchanged. Connect something here to choose when this node runs.")})},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    def manage(self, clear, anything=None):
        if clear:
            server.release_memory()
        report = table_of_caches(caches.statistics())
        return {"ui": {"text": [report]}, "result": (anything, report)}


class InstantIDPerformanceReport:
    DESCRIPTION = ("Shows how long each step of InstantID took in this run, how much memory was in use, and what came from its "
                   "caches. Nothing is measured in workflows without this node.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["profiler", "benchmark", "timing", "speed", "why slow", "耗时"]
    RETURN_TYPES = (IO.ANY, "STRING")
    RETURN_NAMES = ("anything", "table")
    OUTPUT_TOOLTIPS = ("The input, unchanged.", "The steps, the slowest first.")
    FUNCTION = "report"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True  # one report, and lists go through whole
    OUTPUT_IS_LIST = (True, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": (IO.ANY, {"tooltip": (
            "Connect the last thing that is made, such as the pictures: what runs later is not in the report. This node runs "
            "every time, and so does what its first output is connected to.")})}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # not equal to itself: the report is new even where no input has changed

    def report(self, anything):
        table = table_of_stages(last_run())
        return {"ui": {"text": [table]}, "result": (anything, table)}
