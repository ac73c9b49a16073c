"""Opening a real-size adapter file: ours, and modules built with default initialisation that then get the file's tensors.

Memory is read from Linux's /proc, mapped pages of the file included.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import CHECKOUT, common

# each in a process of its own: memory that a process has had stays in its peak
SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import runtime
runtime.use_comfyui({comfyui!r})
import nodes, torch
runtime.import_pack()
from instantid_swift.identity import adapter
from oracle import fixtures as fx
def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
Path("/proc/self/clear_refs").write_text("5")  # what importing took shall not hide the peak
before, start = resident("VmRSS"), time.perf_counter()
{statements}
print(time.perf_counter() - start, resident("VmHWM") - before)
"""
OURS = "loaded = adapter.load_adapter({file!r})"
DEFAULT = """
module = adapter.AdapterNetwork([width * 320 for width in fx.BLOCK_WIDTHS])
module.load_state_dict(adapter.read_tensors({file!r}))
"""
FIRST_USE = OURS + """
embedding = torch.randn(1, 1, 512)
loaded.identity(embedding, torch.zeros_like(embedding), torch.float32)
"""
VARIANTS = {"ours": OURS, "ours, and a first identity": FIRST_USE, "default initialisation": DEFAULT}


def run(arguments):
    from oracle import fixtures as fx
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "ip-adapter.bin")
        torch.save(fx.instantid_checkpoint(channels=320), file)
        size = Path(file).stat().st_size
        figures = {name: {"seconds": [], "peak bytes": []} for name in VARIANTS}
        for _ in range(arguments.iterations):
            for name, statements in VARIANTS.items():
                script = SCRIPT.format(paths=[str(CHECKOUT / "dev"), str(CHECKOUT / "tests")], comfyui=str(arguments.comfyui),
                                       statements=statements.format(file=file))
                done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
                seconds, peak = map(float, done.stdout.split()[-2:])
                figures[name]["seconds"].append(seconds)
                figures[name]["peak bytes"].append(peak)
    figures = {name: {key: common.median(values) for key, values in of.items()} for name, of in figures.items()}
    common.print_table(["", "seconds", "extra peak MB", "of default's time"],
                       [[name, f"{of['seconds']:.3f}", f"{of['peak bytes'] / 1e6:.0f}",
                         f"{of['seconds'] / figures['default initialisation']['seconds']:.3f}"]
                        for name, of in figures.items()])
    print(f"The file has {size / 1e6:.0f} MB.")
    return {"variants": figures, "file bytes": size}
