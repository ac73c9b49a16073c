"""Shared by the stages: timing side by side, the machine and its versions, tables."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from statistics import median

import torch

PACKAGES = ("numpy", "insightface", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless",
            "triton")
PAUSE = 0.3  # after a run, onnxruntime's threads wait spinning by default, and slow down whoever is next


def side_by_side(variants, rounds, warmup=1, pause=0.0):
    """Median seconds of each of several functions, {name: seconds}.

    The functions take turns in every round, so that what disturbs the machine disturbs all of them; on CUDA the device is
    waited for at both ends of each region. pause: seconds between them, where a function leaves threads behind (PAUSE).
    """
    taken = {name: [] for name in variants}
    for number in range(warmup + rounds):
        for name, function in variants.items():
            time.sleep(pause)
            synchronise()
            start = time.perf_counter()
            function()
            synchronise()
            if number >= warmup:
                taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def profile(function):
    """torch's profile of a call of a function, until the GPU is done with it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        function()
        synchronise()
    return profile


def machine():
    """The hardware, so that figures of different machines are never compared."""
    processor = platform.processor() or platform.machine()
    try:
        names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
        processor = names[0] if names else processor
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": processor, "cores": cores, "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def versions():
    import comfyui_version
    found = {"python": platform.python_version(), "torch": torch.__version__, "comfyui": comfyui_version.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def print_table(head, rows):
    """Columns as wide as their content, numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in [head, ["-" * width for width in widths], *rows]:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([row[0].ljust(widths[0]), *numbers]))
