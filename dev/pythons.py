"""Tries the pack on every Python from 3.10 to 3.13 that this machine has: python dev/pythons.py

Nothing is downloaded. With each interpreter all files are compiled and the pack's modules are imported, with empty stand-ins in
place of packages that it lacks; where it has torch and pytest, tests/pure is run. Interpreters are found on the path and among
pyenv's versions.
"""
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

CHECKOUT = Path(__file__).resolve().parent.parent
VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13))
NOT_THE_PACK = {"tests", "dev", "benchmarks"}
A_PROGRAM_OF_ITS_OWN = "bulk"  # which says which Python it needs
CALLED_BY_COMFYUI = {"InstantID", "__init__"}   # at their import they speak with ComfyUI
PACKAGE = "pack_on_this_python"


def interpreters() -> dict[str, str]:
    """{version: path} of one interpreter for each of VERSIONS that is there; a newer patch version wins."""
    candidates = [str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python")]
    candidates += [path for major, minor in VERSIONS if (path := shutil.which(f"python{major}.{minor}"))]
    found = {}
    for path in sorted(candidates):
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
        match = re.match(r"Python ((\d+)\.(\d+)\.\d+)", done.stdout)
        if match and (int(match[2]), int(match[3])) in VERSIONS:
            found.setdefault(f"{match[2]}.{match[3]}", []).append((tuple(map(int, match[1].split("."))), path))
    return {version: max(paths)[1] for version, paths in sorted(found.items(), key=lambda item: int(item[0].split(".")[1]))}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives an empty module for every package that is not installed; remembers which."""

    def __init__(self):
        self.names = set()

    def find_spec(self, name, path=None, target=None):
        # "org" is looked for by the standard library, for Jython
        if name.split(".")[0] in (PACKAGE, "org", *sys.stdlib_module_names):
            return None
        self.names.add(name.split(".")[0])
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: mock.MagicMock() if not name.startswith("__") else _missing(name)
        return module

    def exec_module(self, module):
        pass


def _missing(name):
    raise AttributeError(name)


def try_here() -> dict:
    """Compiles and imports in this interpreter. Raises what goes wrong."""
    files = [path for path in sorted(CHECKOUT.rglob("*.py"))
             if not any(part.startswith(".") or part == A_PROGRAM_OF_ITS_OWN for part in path.relative_to(CHECKOUT).parts)]
    for path in files:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
    stand_ins = StandIns()
    sys.meta_path.append(stand_ins)
    package = sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
    package.__path__ = [str(CHECKOUT)]
    names = [path.relative_to(CHECKOUT).with_suffix("").parts for path in files]
    modules = [parts[:-1] if parts[-1] == "__init__" else parts for parts in names
               if parts[0] not in NOT_THE_PACK | CALLED_BY_COMFYUI]
    for parts in modules:
        importlib.import_module(".".join((PACKAGE, *parts)))
    return {"version": sys.version.split()[0], "files": len(files), "modules": len(modules), "lacking": sorted(stand_ins.names)}


def pure_ring(python: str) -> str:
    """How tests/pure ended with an interpreter, or why it was not run."""
    if subprocess.run([python, "-c", "import torch, pytest"], capture_output=True).returncode:
        return "tests/pure not run, as torch or pytest is not installed"
    done = subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/pure"], cwd=CHECKOUT,
                          capture_output=True, text=True)
    return f"tests/pure: {(done.stdout.strip().splitlines() or ['no output'])[-1]}"


def main() -> int:
    if sys.argv[1:] == ["--here"]:
        print(json.dumps(try_here()))
        return 0
    failed = False
    for version, python in interpreters().items():
        done = subprocess.run([python, __file__, "--here"], capture_output=True, text=True,
                              env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        if done.returncode:
            failed = True
            print(f"Python {version}: FAILED\n{done.stderr}")
            continue
        result = json.loads(done.stdout)
        print(f"Python {result['version']}: {result['files']} files compile; {result['modules']} modules import"
              f"{' with stand-ins for ' + ', '.join(result['lacking']) if result['lacking'] else ''}; {pure_ring(python)}.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
