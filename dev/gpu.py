"""Checks and times the pack on a GPU: python dev/gpu.py --output FILE [--comfyui PATH] [--baseline PATH] [--minutes 9]

Three stages, the most important first: `bits` compares pictures with the tests' formula, the oracle and the original pack
(--baseline), `memory` counts bytes on the device, `times` measures steps. Each runs in a process of its own for each way in
which ComfyUI (0.30 or later) manages a GPU's memory, and is written to FILE. Called again with the same FILE, the command goes
on with what is missing. The exit code is 0 where all was run and holds, 1 where something does not hold, else 2.

It needs the face networks in .dev, made by dev/test.py, and what ComfyUI and InsightFace need: packages that are not installed
may lie in a folder as .whl files (--wheels). --device cpu runs all on miniature models and a simulated device, as a trial.
"""

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

from pins import NEWEST_COMFYUI

CHECKOUT = Path(__file__).resolve().parent.parent
DEV = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev"))
WAYS = DYNAMIC, ASYNC, NATIVE = "dynamic VRAM", "cudaMallocAsync", "native"  # to manage a GPU's memory
FLAGS = {DYNAMIC: ["--cuda-malloc", "--enable-dynamic-vram"], ASYNC: ["--cuda-malloc", "--disable-dynamic-vram"],
         NATIVE: ["--disable-cuda-malloc", "--disable-dynamic-vram"],
         "float16": ["--fp16-unet"], "bfloat16": ["--bf16-unet"], "float32": ["--fp32-unet"]}
# what is run, in its order: stage, way, dtype, and of `times` pixels a side or backends of torch.compile
ON_CPU = [("bits", DYNAMIC, "float32"), ("memory", NATIVE, "float32"), ("times", NATIVE, "float32", "64", "eager")]
ON_GPU = [*(("bits", way, dtype) for way in WAYS for dtype in ("float16", "bfloat16", "float32")),
          *(("memory", way, "float16") for way in WAYS), *(("times", way, "float16", part) for part in (
              "1024", "512", "inductor", "cudagraphs") for way in (DYNAMIC, NATIVE))]
STAGES, DONE = ("bits", "memory", "times"), "done"
MARKS = {True: "holds", False: "DOES NOT HOLD", None: "not told"}
MOST_OFF_ON_CPU, MOST_OFF = 1e-4, 1e-2  # of the oracle's pictures, in standard deviations: a CPU has computed them
MOST_TAKEN, MOST_LEFT = 100e6, 2**16  # bytes


def main():
    arguments = parse()
    if arguments.run:
        return run_here(arguments)
    settings = {"device": arguments.device, "comfyui": arguments.comfyui.name, "baseline": bool(arguments.baseline)}
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"settings": settings, "runs": {}}
    if content["settings"] != settings:
        sys.exit(f"{arguments.output} was begun with {content['settings']}, this is {settings}: choose another --output.")
    plan = [", ".join(run) for run in (ON_CPU if arguments.device == "cpu" else ON_GPU) if run[0] in arguments.only]
    deadline = time.monotonic() + 60 * arguments.minutes
    for name in plan:
        left = deadline - time.monotonic()
        if content["runs"].get(name, {}).get("status") != DONE and left > 1:
            print(f"{name}: ", end="", flush=True)
            content["runs"][name] = result = run_apart(name, arguments, left)
            print(f"{result['status']}, {result['seconds']:.0f} s", flush=True)
        content["verdict"] = verdict(plan, content["runs"])
        write(arguments.output, content)
    for row in content["verdict"]:
        print(f"{MARKS[row['holds']]:13}  {row['run']}: {row['must']}: {row['found']}")
    if arguments.device == "cpu":
        print("\nThis ran on a CPU, on a miniature: NOTHING WAS SHOWN ON A GPU.")
    found = [row["holds"] for row in content["verdict"]]
    complete = all(content["runs"].get(name, {}).get("status") == DONE for name in plan)
    counts = ", ".join(f"{found.count(holds)} {mark}" for holds, mark in MARKS.items())
    print(f"\n{counts}. {'All was run.' if complete else 'Call the command again to run what is missing.'}")
    return 1 if False in found else 0 if complete else 2


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write, or to go on with")
    parser.add_argument("--comfyui", type=Path, default=DEV / f"ComfyUI-{NEWEST_COMFYUI}", help="its folder; default: in .dev")
    parser.add_argument("--baseline", type=Path, help="the original pack, to be compared with; default for times: a stand-in")
    parser.add_argument("--wheels", type=Path, default=CHECKOUT / "wheels", help="a folder of .whl files; default: wheels")
    parser.add_argument("--minutes", type=float, default=9, help="the time for all; default: 9")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="some of the stages")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.comfyui / "main.py").is_file():
        parser.error(f"There is no ComfyUI in {arguments.comfyui}: name its folder with --comfyui PATH.")
    arguments.work = Path(f"{arguments.output}.work").resolve()  # what stages share
    return arguments


def run_apart(name, arguments, seconds):
    """Returns what became of a stage: {"status", "seconds", "rows", "figures", "log"}. It is ended when the time is over."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    report, log = arguments.work / "stage.json", arguments.work / "log.txt"
    report.unlink(missing_ok=True)
    variables = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": f"backend:{NATIVE if NATIVE in name else ASYNC}"}
    if arguments.device == "cpu":
        variables["OMP_NUM_THREADS"] = "1"  # what the miniature computes is too small to be shared out
    start, status = time.monotonic(), f"not finished within {seconds:.0f} seconds"
    with log.open("w") as output, contextlib.suppress(subprocess.TimeoutExpired):
        code = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--run", name], stdin=os.pipe()[0], stdout=output,
                              stderr=output, env=variables, timeout=seconds).returncode
        status = f"ended with exit code {code}" if code else DONE
    content = json.loads(report.read_text()) if report.exists() else {"rows": [], "figures": {}}
    return {"status": status, "seconds": round(time.monotonic() - start, 1), **content,
            "log": "" if status == DONE else log.read_text(errors="replace")[-4000:]}


def verdict(plan, results):
    """Returns rows of what must hold, at least one for each stage: {"run", "must", "found", "holds"}."""
    rows = []
    for name in plan:
        result = results.get(name, {"status": "not run: no time was left", "rows": []})
        rows += [{"run": name, **row} for row in result["rows"]]
        if result["status"] != DONE:
            crashed = result["status"].startswith("ended") and "cudagraphs" not in name  # a backend that may not run here
            rows.append({"run": name, "must": "run to its end", "found": result["status"], "holds": False if crashed else None})
    return rows


def write(path, content):
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def run_here(arguments):
    """Runs a stage, in the process that is its own. What it imports comes after ComfyUI's start."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()  # ends when the command is killed
    name, way, dtype, *parts = arguments.run.split(", ")
    start_comfyui(way, dtype, arguments)
    import runtime
    from stand_ins.traffic import simulated_device
    folder = arguments.baseline or CHECKOUT / "benchmarks" / "original_way"  # a stand-in, for times
    packs = [runtime.import_pack(*of).NODE_CLASS_MAPPINGS for of in ((), ("baseline", folder))]
    simulated = arguments.device == "cpu" and name != "times"
    with simulated_device(modules_move=True) if simulated else contextlib.nullcontext((None, None)) as (_, watch):
        stage = Stage(arguments, dtype, *packs, watch)
        {"bits": bits, "memory": memory, "times": times}[name](stage, *parts)
        if way == DYNAMIC:
            import comfy_aimdo.control
            paged = comfy_aimdo.control.get_total_vram_usage()
            stage.row("weights lie in dynamic VRAM", f"{paged / 1e6:.0f} MB", paged > 0)


def add_packages(wheels, folder):
    """Unpacks a folder of wheels, to be imported where they are not installed."""
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    sys.path.append(str(folder))


def start_comfyui(way, dtype, arguments):
    """Does what ComfyUI's main.py does, up to its server. On a CPU a stand-in takes the place of dynamic VRAM's library."""
    on_cpu = arguments.device == "cpu"
    add_packages(arguments.wheels, arguments.work / "site")
    sys.path.insert(1, str(CHECKOUT / "tests"))
    sys.path.append(str(CHECKOUT))  # behind ComfyUI, which has a `utils`, too
    if way == DYNAMIC:
        if on_cpu:
            from stand_ins.aimdo import Library
            Library().install()
        import comfy_aimdo.control
        comfy_aimdo.control.init()  # before torch, and before ComfyUI's modules, which keep the library that they find
    import runtime
    runtime.use_comfyui(arguments.comfyui, *FLAGS[way], *FLAGS[dtype], "--disable-all-custom-nodes",
                        *(("--cpu", "--disable-pinned-memory") if on_cpu else ()))
    import main  # noqa: F401  ComfyUI's


class Stage:
    """The models of a stage and its report. world: a cases.World with random weights. ways: {"ours", "formula", "baseline": a
    function with the arguments and results of Apply InstantID Advanced}."""

    def __init__(self, arguments, dtype, nodes, theirs, watch):
        import comfy.model_management
        import torch

        from benchmarks import common
        torch.backends.cudnn.allow_tf32 = False
        self.arguments, self.watch, self.gpu = arguments, watch, arguments.device == "cuda"
        self.nodes, self.theirs = nodes, theirs
        self.cells, self.steps = (64, 4) if self.gpu else (8, 1)
        self.device, self.dtype = comfy.model_management.get_torch_device(), getattr(torch, dtype)
        self.report = {"rows": [], "figures": {**common.machine(), **common.versions()}}
        if self.gpu:
            backend = torch.cuda.get_allocator_backend()
            self.row("PyTorch's allocator is the one meant", backend, (backend == NATIVE) == (NATIVE in arguments.run))
        self.load("full" if self.gpu else "miniature")

    def load(self, size):
        """Makes world and ways. size: of benchmarks/models.py."""
        import folder_paths
        import torch
        from oracle import cases
        from reference import reference_apply

        from benchmarks import models
        file, unfinished = self.arguments.work / f"ip-adapter-{size}.bin", self.arguments.work / "unfinished"
        if not file.exists():
            torch.save(cases.fx.instantid_checkpoint(channels=models.adapter_channels(size)), unfinished)
            unfinished.replace(file)
        folder_paths.add_model_folder_path("instantid", str(file.parent))
        parts = {"model": models.unet(size, self.device, self.dtype), "net": models.identity_net(size, self.device, self.dtype),
                 "analysis": cases.fx.face_analysis(DEV / "models" / "insightface"), "positive": cases.fx.conditioning(11),
                 "negative": cases.fx.conditioning(12)}

        def world(nodes):
            return cases.World(instantid=cases.call(nodes, "InstantIDModelLoader", instantid_file=file.name)[0], **parts)
        self.world = world(self.nodes)
        self.ways = {"ours": partial(cases.advanced, self.nodes, self.world),
                     "formula": lambda **over: reference_apply(self.world, **{"image": cases.faces("a"), **over})}
        if self.arguments.baseline or "times" in self.arguments.run:
            self.ways["baseline"] = partial(cases.advanced, self.theirs, world(self.theirs))

    def row(self, must, found, holds):
        """must: what must hold. found: in words. holds: True, False, or None where it could not be told."""
        self.report["rows"].append({"must": must, "found": found, "holds": holds})
        write(self.arguments.work / "stage.json", self.report)

    def equal(self, must, latents, others):
        self.row(must, f"largest difference {(latents.float() - others.float()).abs().max().item():g}",
                 latents.equal(others) and latents.isfinite().all().item())

    def sample(self, wired, cells=None, batch=1):
        """Returns latents on the CPU. wired: model, positive, negative. cells: latents a side."""
        from oracle import fixtures as fx
        return fx.sample(*wired, size=2 * (cells or self.cells,), batch=batch, steps=self.steps).cpu()

    def workflows(self):
        """Returns {name: function that wires a workflow in one of the ways}; on a CPU the first of them."""
        import comfy.sd
        import torch
        from oracle import cases

        def two_people(apply):
            left = cases.left_half()
            patched, first, negative = apply(mask=left)
            patched, second, _ = apply(image=cases.faces("b"), mask=1 - left, model=patched)
            return patched, first + second, negative

        def lora(apply):
            weights = {key.replace("weight", f"lora_{part}.weight"): torch.full(shape, 0.02)
                       for key, weight in self.world.model.model.state_dict().items() if key.endswith("attn2.to_q.weight")
                       for part, shape in (("up", (len(weight), 4)), ("down", (4, len(weight))))}
            return apply(model=comfy.sd.load_lora_for_models(self.world.model, None, weights, 1.0, 0)[0])

        found = {"two people under masks": two_people, "with a LoRA": lora, "four pictures": lambda apply: apply(),
                 "in a part of the run": lambda apply: apply(start_at=0.4, end_at=0.9, noise=0.3),
                 "several photos": lambda apply: apply(image=cases.faces("a", "b"), combine_embeds="concat")}
        return found if self.gpu else dict(list(found.items())[:2])


def bits(stage):
    import safetensors.torch
    import torch
    from oracle import cases
    flows, found = stage.workflows(), {}
    for name, workflow in flows.items():
        latents = {way: stage.sample(workflow(apply), batch=4 if "four" in name else 1) for way, apply in stage.ways.items()}
        found[name] = ours = latents.pop("ours")
        for way, theirs in latents.items():
            stage.equal(f"{name}: ours has the bits of the {way}", ours, theirs)
    first, plain = next(iter(flows)), stage.sample((stage.world.model, stage.world.positive, stage.world.negative))
    stage.row("an identity changes the picture", f"by {(found[first] - plain).abs().max():g}", not found[first].equal(plain))
    stage.equal(f"{first}: queued again after all others it has the same bits",
                stage.sample(flows[first](stage.ways["ours"])), found[first])
    if stage.dtype == torch.float32:
        expected = safetensors.torch.load_file(CHECKOUT / "tests" / "oracle" / "expected.safetensors")
        most = MOST_OFF if stage.gpu else MOST_OFF_ON_CPU
        if stage.gpu:
            stage.load("miniature")
        for name in cases.CASES if stage.gpu else ["attention_only"]:
            latents = cases.CASES[name](stage.nodes, stage.world).cpu()
            off = ((latents - expected[name]).abs().max() / expected[name].std()).item()
            stage.row(f"the original's picture: {name}", f"{off:.2g} standard deviations off", off <= most)


def memory(stage):
    import torch
    from oracle import cases
    from stand_ins import traffic
    ours, flows = stage.ways["ours"], list(stage.workflows().values())

    def used():
        gc.collect()
        return torch.cuda.memory_allocated() if stage.gpu else traffic.memory.bytes

    stage.sample(ours())  # loads the models, and what cuBLAS keeps
    before = used()
    if stage.gpu:
        torch.cuda.reset_peak_memory_stats()
    with contextlib.nullcontext() if stage.gpu else stage.watch.count() as counted:
        ours(image=cases.faces("b"))
    taken = torch.cuda.max_memory_allocated() - before if stage.gpu else counted.most_bytes
    stage.row("to project a person takes less than 100 MB of the device", f"{taken / 1e6:.1f} MB", taken < MOST_TAKEN)
    for runs in (1, 50) if stage.gpu else (1,):
        for flow in flows[:runs]:  # what ComfyUI keeps of them is there before
            stage.sample(flow(ours))
        before = used()
        for number in range(runs):
            stage.sample(flows[number % len(flows)](ours))
        left = used() - before
        stage.row(f"nothing is left on the device after more workflows: {runs}", f"{left} bytes", left < MOST_LEFT)


def times(stage, *parts):
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import TorchCompileModel
    world, (_, *net) = stage.world, stage.ways["formula"]()
    variants = {"plain UNet": (world.model, world.positive, world.negative), "with IdentityNet": (world.model, *net),
                "ours": stage.ways["ours"](), "baseline": stage.ways["baseline"]()}

    def behind(backend, model):
        if stage.gpu:
            return TorchCompileModel.execute(model, backend).result[0]
        model = model.clone()  # one block alone: to trace all of them takes minutes
        set_torch_compile_wrapper(model, backend, keys=["diffusion_model.middle_block.1.transformer_blocks.0"])
        return model

    for part in parts:
        if part.isdigit():
            for batch in (1, 4) if stage.gpu else (1,):
                what = f"{part} pixels, batch {batch}"
                latents = measure(stage, what, variants, int(part) // 8, batch)
                stage.equal(f"{what}: ours has the baseline's bits", latents["ours"], latents["baseline"])
        else:
            compiled = {name: (behind(part, model), *texts) for name, (model, *texts) in variants.items()}
            measure(stage, f"compiled by {part}", compiled, 128 if stage.gpu else 8, 1)


def measure(stage, what, variants, cells, batch):
    """Times all variants side by side, counts their host reads and launches. Returns their latents."""
    from benchmarks import common
    from benchmarks.stages import sampling
    functions = {name: partial(stage.sample, wired, cells, batch) for name, wired in variants.items()}
    latents = {name: function() for name, function in functions.items()}
    seconds = common.side_by_side(functions, 3 if stage.gpu else 1, warmup=0)
    found = stage.report["figures"][what] = {name: {"ms a step": 1000 * taken / stage.steps} for name, taken in seconds.items()}
    for name in variants if stage.gpu else ("with IdentityNet", "ours"):
        found[name] |= sampling.count(functions[name], stage.steps)
    reads = found["ours"]["host reads"] - found["with IdentityNet"]["host reads"]
    stage.row(f"{what}: ours adds no host read to a step", f"{reads:g} reads", reads <= 0)
    stage.row(f"{what}: ours is not slower than the baseline",
              ", ".join(f"{name} {row['ms a step']:.1f} ms" for name, row in found.items()),
              seconds["ours"] <= seconds["baseline"] if stage.gpu else None)  # the miniature's times tell nothing
    return latents


if __name__ == "__main__":
    sys.exit(main())
