"""Shows InstantID Swift at work in a real ComfyUI: python dev/demo.py

Without arguments it makes everything it needs in the folder .dev/ and uses a miniature SDXL with random weights.
With --comfyui PATH --checkpoint NAME --controlnet NAME it runs the same workflow on your own ComfyUI and real models,
without changing anything there. The results go to demo-output/.
"""
import argparse
import html
import importlib.util
import os
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))        # an embedded Python does not add it

import environment  # noqa: E402
import pins  # noqa: E402

OUTPUT = environment.CHECKOUT / "demo-output"
PHOTO = environment.CHECKOUT / "tests" / "people" / "group.jpg"     # people who do not exist
PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>InstantID Swift at work</title>
<style>body {{ font-family: sans-serif; max-width: 1000px; margin: 2em auto }} pre {{ white-space: pre-wrap }}
img {{ max-width: 100% }}</style>
<h1>InstantID Swift at work</h1><pre>{text}</pre>{pictures}
"""
INSIDE = "INSTANTID_DEMO_INSIDE"        # set in the second process, which runs in the right environment


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Runs an InstantID workflow three times in a real ComfyUI and writes what it shows to demo-output/.")
    parser.add_argument("--photo", type=Path, help="a picture with at least one face (default: six people who do not exist)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: 2, with a real model 20)")
    own = parser.add_argument_group("your own ComfyUI and models, instead of the miniature")
    own.add_argument("--comfyui", type=Path, metavar="PATH", help="the folder with ComfyUI's main.py")
    own.add_argument("--checkpoint", metavar="NAME", help="an SDXL checkpoint in models/checkpoints")
    own.add_argument("--controlnet", metavar="NAME", help="InstantID's ControlNet in models/controlnet")
    own.add_argument("--adapter", metavar="NAME", help="InstantID's ip-adapter file in models/instantid")
    own.add_argument("--python", type=Path, help="the interpreter that runs this ComfyUI (default: looked for)")
    options = parser.parse_args(arguments)
    if not options.comfyui and (options.checkpoint or options.controlnet or options.adapter or options.python):
        parser.error("--checkpoint, --controlnet, --adapter and --python need --comfyui")
    return options


# ---- before the environment: any Python -------------------------------------------------------------------------

def choose_python(options: argparse.Namespace) -> Path:
    """The interpreter that has what the demo needs: ComfyUI's own, or that of .dev/, made now if necessary."""
    if options.photo and not options.photo.is_file():
        raise DemoError(f"There is no photo {options.photo}.")
    if not options.comfyui:
        environment.ensure()
        return environment.PYTHON
    if not (options.comfyui / "main.py").is_file():
        raise DemoError(f"{options.comfyui} is not a ComfyUI folder: it has no main.py.")
    if options.python:
        if not options.python.is_file():
            raise DemoError(f"There is no interpreter {options.python}.")
        return options.python
    root, inside = options.comfyui.resolve(), "Scripts/python.exe" if os.name == "nt" else "bin/python"
    places = [root / "venv" / inside, root / ".venv" / inside, root.parent / "python_embeded" / "python.exe",
              root.parent / "venv" / inside, root.parent / ".venv" / inside]
    for place in places:
        if place.is_file():
            return place
    if all(importlib.util.find_spec(name) for name in ("torch", "aiohttp")):
        return Path(sys.executable)         # an activated environment, a container
    raise DemoError(f"Which Python runs {root}? None was found in {', '.join(str(p.parent) for p in places)}. "
                    "Give it with --python PATH.")


def start_again(python: Path) -> int:
    """This program once more, in the interpreter that has the packages."""
    command = [str(python), str(Path(__file__).resolve()), *sys.argv[1:]]
    variables = {**os.environ, INSIDE: str(python)}
    if os.name != "nt":
        os.execve(command[0], command, variables)
    return subprocess.call(command, env=variables)


# ---- in the environment -----------------------------------------------------------------------------------------

def pick(client, given: str | None, option: str, node: str, widget: str, default: str = "") -> str:
    """A file that the server offers: the given one, else the default or the only one."""
    offered = client.choices(node, widget)
    if given is None and default in offered:
        return default
    if given is None and len(offered) == 1:
        return offered[0]
    if given in offered:
        return given
    problem = f"This ComfyUI has no {given!r} for {option}" if given else f"{option} NAME is missing"
    if not offered:
        raise DemoError(f"{problem}, and its {node} offers no file at all: demo.py --help says where each goes.")
    raise DemoError(f"{problem}. Its {node} offers:\n" + "\n".join(f"    {name}" for name in offered))


def serve(options: argparse.Namespace):
    """The server to be used, and for one's own ComfyUI nothing of ours but the pack."""
    from serving import miniature
    from serving.server import Server
    if options.comfyui:
        return Server(options.comfyui, Path(os.environ[INSIDE]), models=None)
    miniature.write_adapter(environment.MODELS / "instantid")
    return Server(environment.comfyui())


def run_workflow(options: argparse.Namespace) -> None:
    """Start ComfyUI, queue the workflow three times, write the pictures, print the table."""
    from serving import demo_workflow as wf
    from serving import miniature
    photo = options.photo or PHOTO
    what = str(options.comfyui) if options.comfyui else f"{pins.NEWEST_COMFYUI} with a miniature SDXL (random weights)"
    print(f"Starting ComfyUI: {what} ...", flush=True)
    with serve(options) as server:
        client = server.client
        if "ApplyInstantID" not in client.object_info():
            raise DemoError(f"ComfyUI could not load InstantID Swift. {server.last_words()}")
        if options.comfyui:
            names = (pick(client, options.adapter, "--adapter", "InstantIDModelLoader", "instantid_file",
                          "ip-adapter.bin"),
                     pick(client, options.checkpoint, "--checkpoint", "CheckpointLoaderSimple", "ckpt_name"),
                     pick(client, options.controlnet, "--controlnet", "ControlNetLoader", "control_net_name"))
            workflow = wf.build(client.upload_image(photo), *names, size=1024, steps=options.steps or 20)
        else:
            workflow = wf.build(client.upload_image(photo), miniature.ADAPTER, None, None, size=512,
                                steps=options.steps or 2)
        titles, runs, changes = [], [], []
        looks = -client.get("/instantid_swift/caches")["pictures"]["misses"]
        for number, (title, variant) in enumerate(wf.variants(workflow), 1):
            print(f"Run {number} of 3: {title}", flush=True)
            before = client.get("/instantid_swift/caches")
            progress = wf.Progress(variant)
            try:
                runs.append(client.queue(variant, progress))
            finally:
                progress.end_line()
            titles.append(title)
            changes.append(wf.cache_changes(before, client.get("/instantid_swift/caches")))
        looks += client.get("/instantid_swift/caches")["pictures"]["misses"]
        OUTPUT.mkdir(exist_ok=True)
        for node, name in wf.results(real=bool(options.comfyui)).items():
            (OUTPUT / name).write_bytes(client.file(runs[0].outputs[node]["images"][0]))
    count = runs[0].outputs["numbered"]["faces"][0]
    point, table = wf.point(runs, looks), wf.table(workflow, titles, runs, changes)
    words = "`cached`: ComfyUI still had the node's result. `hit`: InstantID Swift had it, though the node ran again."
    pictures = {"faces.png": f"{photo.name} with its {count} detected faces; InstantID takes face 0, the largest",
                "keypoints.png": "the five points that IdentityNet follows"}
    if options.comfyui:
        pictures["picture.png"] = "what the first run sampled"
    else:
        words += ("\nThere is no picture of a person: the miniature SDXL has random weights and makes noise. Faces, keypoints "
                  "and times are real.\n"
                  "For real pictures: python dev/demo.py --comfyui PATH --checkpoint NAME --controlnet NAME")
    print(f"\n{point}\n\n{table}\n\n{words}\n")
    page = OUTPUT / "index.html"
    page.write_text(PAGE.format(text=html.escape(f"{point}\n\n{table}\n\n{words}"), pictures="".join(
        f'<figure><img src="{name}"><figcaption>{html.escape(what)}</figcaption></figure>' for name, what in pictures.items())))
    print(f"All of it is in {page}.")
    if os.name == "nt" or sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ:
        webbrowser.open(page.as_uri())


def main() -> int:
    options = parse(sys.argv[1:])
    # a polite kill must end the server, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if INSIDE not in os.environ:
            return start_again(choose_python(options))
        from serving.client import ClientError
        from serving.server import ServerError
        try:
            run_workflow(options)
        except (ClientError, ServerError) as error:
            raise DemoError(str(error)) from error
    except (DemoError, environment.SetupError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
