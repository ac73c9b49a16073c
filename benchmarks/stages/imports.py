"""What importing the pack adds to ComfyUI's start, in a process that has imported ComfyUI's own modules."""

import json
import subprocess
import sys

from benchmarks import CHECKOUT, common

SCRIPT = """
import importlib.util, json, sys, time
sys.path.insert(0, {dev!r})
import runtime
runtime.use_comfyui({comfyui!r})
import nodes, server, execution, comfy.samplers, comfy.sd
before, start = set(sys.modules), time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", {init!r}, submodule_search_locations=[{checkout!r}])
sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})]))
"""


def run(arguments):
    script = SCRIPT.format(dev=str(CHECKOUT / "dev"), comfyui=str(arguments.comfyui), init=str(CHECKOUT / "__init__.py"),
                           checkout=str(CHECKOUT))
    seconds = []
    for _ in range(arguments.iterations + (not arguments.quick)):  # the first may have to compile
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        taken, packages = json.loads(done.stdout.splitlines()[-1])
        seconds.append(taken)
    median = common.median(seconds[-arguments.iterations:])
    print(f"Importing the pack: {1000 * median:.1f} ms. New packages: {', '.join(packages)}.")
    return {"seconds": median, "packages": packages}
