"""What was recorded of runs and what is kept, as text with aligned columns."""

import torch

from ..caches import MIB

MEANING = ("own: without the stages inside of it. GPU ms: from when the GPU reached the stage until it was through.\n"
           "What ComfyUI took from its own cache has not run, and is not shown.")
MEANING_OF_MEMORY = {True: "GPU MiB: the most that PyTorch had allocated on the GPU during the stage.",
                     False: "MiB: memory of ComfyUI's process at the end of the stage."}
NOTHING = "No stage of InstantID has run: everything came from ComfyUI's cache, or no node of InstantID is in the workflow."


def table(rows, warnings=()):
    """Rows as text with aligned columns; below it the warnings, and what the columns mean."""
    if not rows:
        return NOTHING
    on_gpu = torch.cuda.is_initialized()
    cells = [("stage", "calls", "own ms", "total ms", "GPU ms", "GPU MiB" if on_gpu else "MiB", "cache")]
    for row in rows:
        cells.append((f"{row.name} ({row.failed} failed)" if row.failed else row.name, str(row.calls),
                      f"{1000 * row.own:.1f}", f"{1000 * row.total:.1f}", "" if row.gpu is None else f"{1000 * row.gpu:.1f}",
                      f"{row.memory / MIB:.0f}" if row.memory else "", row.cache))
    return "\n".join([*_aligned(cells), "", *warnings, MEANING_OF_MEMORY[on_gpu], MEANING])


def table_of_caches(statistics, captures):
    """What `caches.statistics` and `graphs.statistics` give, as text with aligned columns."""
    cells = [("cache", "entries", "MiB", "of", "hits", "misses", "seconds saved")]
    cells += [(name, str(of["entries"]), f"{of['bytes'] / MIB:.1f}", str(of["budget"] // MIB), str(of["hits"]),
               str(of["misses"]), f"{of['seconds_saved']:.2f}") for name, of in statistics.items()]
    return "\n".join([*_aligned(cells), "", f"Replay holds {captures['captures']} captures, {captures['bytes'] / MIB:.0f} MiB "
                                            "of the GPU."])


def _aligned(cells):
    """Lines of rows of strings: names to the left, numbers to the right, the last column as it comes."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]), last]).rstrip()
            for name, *numbers, last in cells]
