"""Nodes that tell about the pack itself."""

from comfy.comfy_types import IO

from . import performance, performance_report

CATEGORY = "InstantID"


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
        made = performance.report()
        return {"ui": {"text": [made.table]},
                "result": (anything, made.table, performance_report.chart(made.rows), made.history)}
