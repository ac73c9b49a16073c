"""Writes locales/en/nodeDefs.json from the nodes, and says what other languages and help pages lack: python dev/locales.py

English stands in the nodes themselves: DESCRIPTION, tooltips, OUTPUT_TOOLTIPS, NODE_DISPLAY_NAME_MAPPINGS. Every other language
is written by hand, with the same keys. `--check` writes nothing and fails where the English file is out of date.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))        # an embedded Python does not add it

import environment  # noqa: E402

LOCALES = environment.CHECKOUT / "locales"
HELP = environment.CHECKOUT / "web" / "docs"
LANGUAGES = ("en", "zh")


def entries(classes: dict, names: dict) -> dict:
    """The content of nodeDefs.json in English. classes, names: the pack's two mappings."""
    return {node_id: entry(node, names[node_id]) for node_id, node in sorted(classes.items())}


def entry(node: type, name: str) -> dict:
    """One node's part of nodeDefs.json."""
    groups = node.INPUT_TYPES()
    inputs = {key: described(key, *declared) for group in ("required", "optional")
              for key, declared in groups.get(group, {}).items()}
    titles = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    outputs = {str(place): {"name": str(title), "tooltip": tooltip}
               for place, (title, tooltip) in enumerate(zip(titles, node.OUTPUT_TOOLTIPS, strict=True))}
    return {"display_name": name, "description": node.DESCRIPTION, "inputs": inputs, "outputs": outputs}


def described(key: str, kind: object, options: dict) -> dict:
    """One input's part. Choices are listed where they are the same on every computer, which names of
    files and of ComfyUI's samplers are not."""
    made = {"name": key, "tooltip": options["tooltip"]}
    return {**made, "options": {str(choice): str(choice) for choice in kind}} if isinstance(kind, list) \
        and not key.endswith(("_file", "person", "sampler_name", "scheduler")) else made


def keys(content: object, path: tuple = ()) -> set:
    """The paths of all texts in a nodeDefs.json."""
    if not isinstance(content, dict):
        return {path}
    return {place for key, value in content.items() for place in keys(value, (*path, key))}


def read(language: str) -> dict:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def written(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def faults(english: dict) -> list[str]:
    """What is missing or left over in the files, in sentences that say what to do."""
    found = [] if read("en") == english else ["locales/en/nodeDefs.json is out of date: run python dev/locales.py"]
    for language in LANGUAGES:
        here, wanted = keys(read(language)), keys(english)
        found += [f"locales/{language}/nodeDefs.json lacks {' > '.join(path)}: add it" for path in sorted(wanted - here)]
        found += [f"locales/{language}/nodeDefs.json has {' > '.join(path)}, which no node has: remove it"
                  for path in sorted(here - wanted)]
    pages = {path.relative_to(HELP).as_posix() for path in HELP.rglob("*.md")}
    wanted = {page for node_id in english for page in (f"{node_id}.md", f"{node_id}/zh.md")}
    found += [f"web/docs/{page} is missing: write a short help page" for page in sorted(wanted - pages)]
    found += [f"web/docs/{page} belongs to no node: remove it" for page in sorted(pages - wanted)]
    return found


def main() -> int:
    inside = environment.comfyui()
    if "INSTANTID_LOCALES_INSIDE" not in os.environ:
        environment.ensure()
        return subprocess.call([str(environment.PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]],
                               env={**os.environ, "INSTANTID_LOCALES_INSIDE": "1"})
    import runtime
    runtime.use_comfyui(inside)
    import nodes  # noqa: F401  ComfyUI's, which the pack expects to be there
    pack = runtime.import_pack()
    english = entries(pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS)
    if "--check" not in sys.argv:
        (LOCALES / "en").mkdir(parents=True, exist_ok=True)
        (LOCALES / "en" / "nodeDefs.json").write_text(written(english), encoding="utf-8")
    found = faults(english)
    print("\n".join(found) or "Everything is named in every language.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
