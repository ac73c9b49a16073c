"""Tables of the recorded stages and of the caches, as text with aligned columns."""

import torch

MIB = 1 << 20

MEANING = ("own: without the stages inside of it. MiB: memory of {} after the stage.\n"
           "What ComfyUI took from its own cache has not run, and is not shown.")
NOTHING = "No stage of InstantID has run: everything came from ComfyUI's cache, or no node of InstantID is in the workflow."


def table_of_stages(run):
    """A line for each stage of a `Run` or None, and the meaning of the columns. Waits for the GPU if it was timed."""
    if run is None or not (run.stages or run.caches):
        return NOTHING
    cells = [("stage", "calls", "own ms", "total ms", "GPU ms", "MiB", "cache")]
    for stage in run.stages.values():
        gpu = stage.gpu_seconds()
        cells.append((stage.name, str(stage.calls), f"{1000 * stage.own:.1f}", f"{1000 * stage.total:.1f}",
                      "" if gpu is None else f"{1000 * gpu:.1f}", f"{stage.memory / MIB:.0f}" if stage.memory else "",
                      _hits_and_misses(*run.caches.get(stage.cache, (0, 0)))))
    shown = {stage.cache for stage in run.stages.values()}
    cells += [(name, "", "", "", "", "", _hits_and_misses(*counts)) for name, counts in run.caches.items() if name not in shown]
    where = "the GPU in use by PyTorch" if torch.cuda.is_initialized() else "ComfyUI's process"
    return "\n".join([*_aligned(cells), "", MEANING.format(where)])


def _hits_and_misses(hits, misses):
    """'hit', 'miss', '2 hits, 1 miss' or ''."""
    if hits + misses == 1:
        return "hit" if hits else "miss"
    counts = ((hits, "hit", "hits"), (misses, "miss", "misses"))
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)


def table_of_caches(statistics):
    """A line for each cache of `caches.statistics`."""
    return "\n".join(_aligned([("cache", "entries", "MiB", "hits", "misses"), *(
        (name, str(of["entries"]), f"{of['bytes'] / MIB:.1f}", str(of["hits"]), str(of["misses"]))
        for name, of in statistics.items())]))


def _aligned(cells):
    """Lines of rows of strings: names to the left, numbers to the right, the last column as it comes."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]), last]).rstrip()
            for name, *numbers, last in cells]
