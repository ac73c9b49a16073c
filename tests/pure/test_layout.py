"""The layout: which folder may import which, how large a folder and a module may be."""

import ast
from graphlib import TopologicalSorter

import pytest
from conftest import CHECKOUT

# from the bottom to the top: a module imports only from what stands before it, or from its own folder; the `nodes` of all
# folders stand right below InstantID
LAYERS = ("utils", "host", "performance", "caches", "resampler", "faces", "identity", "CrossAttentionPatch",
          "controlnet", "options", "keypoints", "people", "likeness", "refine", "nodes", "InstantID", "__init__")
DESIGN_CARD = {"__init__.py", "InstantID.py", "CrossAttentionPatch.py", "resampler.py", "utils.py", "caches.py"}
NOT_THE_PACK = {"tests", "dev", "benchmarks", "bulk"}
MOST_MODULES = 9
LEAST_LINES, MOST_LINES = 50, 350
MOST_IN_THE_PACK = 56


def python_files():
    """All Python files of the checkout but those in folders whose names begin with a dot, and the oracle's."""
    return [path for path in sorted(CHECKOUT.rglob("*.py")) if not any(
        part.startswith(".") or part == "oracle" for part in path.relative_to(CHECKOUT).parts)]


def pack_modules():
    """{module name inside the pack, as a tuple of its parts: path}; a folder's `__init__` is named as the folder."""
    modules = {}
    for path in python_files():
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        if parts[0] not in NOT_THE_PACK:
            modules[parts if parts == ("__init__",) or parts[-1] != "__init__" else parts[:-1]] = path
    return modules


def imports_of(name, path, modules):
    """Modules of the pack that a module imports, anywhere in it."""
    package = () if name == ("__init__",) else name if path.name == "__init__.py" else name[:-1]
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom) and statement.level:
            base = package[:len(package) - statement.level + 1] + tuple((statement.module or "").split(".") if statement.module
                                                                        else ())
            for alias in statement.names:
                yield (*base, alias.name) if (*base, alias.name) in modules else base


def graph():
    modules = pack_modules()
    return {name: {other for other in imports_of(name, path, modules) if other not in ((), name)}
            for name, path in modules.items()}


def layer(name):
    return "nodes" if name[-1] == "nodes" else name[0]


def test_imports_run_downward():
    upward = [f"{'.'.join(name)} imports {'.'.join(other)}" for name, others in graph().items() for other in others
              if name[0] != other[0] and layer(name) != layer(other)
              and LAYERS.index(layer(other)) >= LAYERS.index(layer(name))]
    assert upward == []


def test_no_import_runs_in_a_circle():
    """Importing from a folder runs its `__init__`; inside of the folder that is the one importing, not the one imported."""
    list(TopologicalSorter(graph()).static_order())


def test_every_folder_of_the_pack_has_its_place():
    assert {name[0] for name in pack_modules()} <= set(LAYERS)
    assert {path.name for path in CHECKOUT.glob("*.py")} == DESIGN_CARD


@pytest.mark.parametrize("folder", sorted({path.parent for path in python_files()}), ids=lambda folder: folder.name)
def test_a_folder_has_few_modules(folder):
    assert len([path for path in folder.glob("*.py")]) <= MOST_MODULES


def test_a_module_is_neither_short_nor_long():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {str(path) for path, count in lines.items() if count > MOST_LINES} == set()
    small = {path for path in pack_modules().values() if path.name != "__init__.py" and lines[path] < LEAST_LINES}
    assert small == set(), "merge it with the module that uses it"
    assert len(pack_modules()) <= MOST_IN_THE_PACK
