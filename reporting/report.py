"""The report of a run: rows, table, history."""

import json
from typing import NamedTuple

from ..timing import stages
from ..timing.history import seconds_of
from .table import table


class Report(NamedTuple):
    rows: list    # of Row
    table: str    # rows, warnings and the meaning of the columns as text
    history: str  # JSON: {"runs": number, "stages": {name: {"count", "p50", "p95", "last"}}}, in seconds


def report():
    """Report of the run that is being recorded, so far, or of the last one that was. Waits for the GPU if it was timed."""
    latest, history = stages.recorded()
    rows = latest.rows() if latest else []
    seconds = seconds_of(rows)
    return Report(rows, table(rows, history.warnings(seconds)), json.dumps(history.summary(seconds), indent=2))
