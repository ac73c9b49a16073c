"""Makes the folder for a machine without a network: the pack, its tests, both ComfyUI trimmed, packages of pure Python."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
DEV = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev"))
MOST_BYTES = 45_000_000
# of ComfyUI: folders that importing its samplers and nodes reads; of these, what is large and not needed for SDXL
PARTS = ("comfy", "comfy_execution", "comfy_extras", "comfy_config", "comfy_api", "app", "api_server", "utils", "middleware")
LEFT_OUT = ("__pycache__", "*.pyc", "*.safetensors", "t5_tokenizer", "t5_pile_tokenizer", "llama_tokenizer", "qwen25_tokenizer",
            "hydit_clip_tokenizer", "byt5_tokenizer", "*.model", "vocab.json", "merges.txt",
            "tokenizer.json", "*.txt", "*.png", "*.jpg")
# imported by ComfyUI and the pack, of Python alone: their files are the same on every machine
PURE_PACKAGES = ("einops", "cachetools", "tqdm", "torchsde", "trampoline", "packaging")
# dynamic VRAM; it can be imported everywhere, and runs on the system that the bundle was made on
SYSTEMS_PACKAGE = "comfy_aimdo"


def make(folder):
    """Writes the folder and says how large it is. Exit code 1 where it is too large."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        if not name.startswith((".", "docs/", "web/docs", "example_workflows/", "benchmarks/results")) and \
                (CHECKOUT / name).is_file():
            _copy(CHECKOUT / name, folder / name)
    for tree in sorted(DEV.glob("ComfyUI-*")):
        for part in PARTS:
            if (tree / part).is_dir():
                shutil.copytree(tree / part, folder / tree.name / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for path in tree.glob("*.py"):
            _copy(path, folder / tree.name / path.name)
    for package in (*PURE_PACKAGES, SYSTEMS_PACKAGE):
        _copy_package(package, folder / "wheels")
    with contextlib.suppress(ImportError):
        _record_faces(folder / "tests" / "oracle" / "recorded_faces.pt")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB. On the other machine: python {folder.name}/dev/gpu.py --output FILE")
    return 1 if size > MOST_BYTES else 0


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _copy_package(name, folder):
    """An installed package with its licence; nothing where it is not installed."""
    for site in map(Path, sys.path):
        source = site / name
        if any(source.glob("*.py")):
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, folder / name, ignore=ignored)
            for about in site.glob(f"{name}-*.dist-info"):
                shutil.copytree(about, folder / about.name, ignore=ignored)
            return


def _record_faces(path):
    """What insightface finds in the photos of the oracle: its packages are not of Python alone."""
    command = [sys.executable, "-c", RECORD, str(path), str(_newest_comfyui())]
    done = subprocess.run(command, cwd=CHECKOUT / "dev", capture_output=True, text=True)
    if done.returncode:
        print(f"No faces were recorded, the stage oracle will not be run: {done.stderr.strip().splitlines()[-1:]}")


def _newest_comfyui():
    return max(DEV.glob("ComfyUI-*"), key=lambda path: tuple(map(int, path.name.partition("-")[2].split("."))))


# all cases are wired, and none is sampled
RECORD = """
import sys, tempfile, torch
from gpu_stages.worlds import Settings
Settings("cpu", sys.argv[2], "").prepare()
from gpu_stages.recorded_faces import face_analysis, recording
from instantid_swift import NODE_CLASS_MAPPINGS as nodes
from instantid_swift.identity.adapter import load_adapter
from oracle import cases, fixtures as fx
with tempfile.TemporaryDirectory() as folder:
    torch.save(fx.instantid_checkpoint(), folder + "/ip-adapter.bin")
    world = cases.World(model=fx.mini_sdxl(), net=fx.mini_identity_net(), instantid=load_adapter(folder + "/ip-adapter.bin"),
                        analysis=face_analysis(), positive=fx.conditioning(11), negative=fx.conditioning(12))
    fx.sample = lambda *args, **settings: None
    with recording(sys.argv[1]):
        for case in cases.CASES.values():
            case(nodes, world)
"""
