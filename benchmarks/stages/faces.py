"""The face stage: ours against insightface used as the original uses it, side by side, on the same networks.

The original opens all five networks of antelopev2, runs four of them on every face, and does so once for the embedding and
once more for the keypoints of the first photo; a photo in which it finds nobody is looked at at eight sizes each time.
original_way, a stand-in for the original, does the same. face_networks.py says which networks these are here. With --networks
one's own antelopev2 is measured.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import CHECKOUT, common, face_networks

BATCHES = (1, 4, 16)
OPENINGS = 5
LARGE = "5 networks, large embedder"  # for opening only: nothing needs it run


def run(arguments):
    """The figures, by picture, by step of ours, and of opening; printed as tables."""
    with tempfile.TemporaryDirectory() as scratch:
        roots = ({"own networks": arguments.networks} if arguments.networks else
                 face_networks.make_folders(Path(scratch)))
        run_on = {name: root for name, root in roots.items() if name != LARGE}
        opening = measure_opening(run_on if arguments.quick else roots, arguments.provider,
                                  1 if arguments.quick else 1 + OPENINGS)
        return {"networks_megabytes": {name: face_networks.megabytes(root) for name, root in roots.items()},
                "opening": opening, "pictures_milliseconds": measure_pictures(run_on, arguments),
                "steps_milliseconds": measure_steps(list(run_on.values())[-1], arguments)}


def photos(quick=False):
    """{name: IMAGE}; quick: of the portraits one alone."""
    import torch
    from oracle import fixtures as fx
    from photos import close_up
    portraits = torch.cat([fx.portrait(name) for name in fx.FACE_CROPS])
    batches = BATCHES[:1] if quick else BATCHES
    return {**{f"{n} portrait{'s' * (n > 1)}, 320x320": portraits.repeat(4, 1, 1, 1)[:n] for n in batches},
            "group photo, 6 faces": fx.photo(), "close-up, 1024x1024": close_up(),
            "nobody, 1024x1024": torch.full((1, 1024, 1024, 3), 0.5)}


# ---- the two ways


def open_original(root, provider):
    from benchmarks.original_way.faces import open_analysis
    return open_analysis(root, provider)


def open_ours(root, provider):
    from instantid_swift.faces.analysis import open_face_analysis
    return open_face_analysis([str(root)], provider)


def original(analysis, images):
    """Embeddings of all photos, keypoints of the first, each with an analysis of its own, as the original has it."""
    from benchmarks.original_way import faces
    return faces.embeddings(analysis, images), faces.drawn_keypoints(analysis, images[:1])


def ours(analysis, images, kept=False):
    """The same by our stage. kept: the photos have been seen before."""
    from instantid_swift import caches, faces
    if not kept:
        caches.clear()
    try:
        return faces.Photos(analysis, images).references(), faces.Photos(analysis, images).drawing(first_only=True)
    except faces.NoFaceError:
        return None


# ---- what is measured


def milliseconds(functions, rounds):
    seconds = common.side_by_side(functions, rounds, pause=common.PAUSE)
    return {name: round(1000 * value, 2) for name, value in seconds.items()}


def measure_pictures(roots, arguments):
    """Milliseconds of each way, {photos: {way: median}}; for the original once with each folder of networks."""
    analyses = {f"original, {name}": open_original(root, arguments.provider) for name, root in roots.items()}
    mine = open_ours(list(roots.values())[0], arguments.provider)
    figures = {}
    for name, images in photos(arguments.quick).items():
        ways = {way: lambda plain=plain, images=images: original(plain, images) for way, plain in analyses.items()}
        ways["ours"] = lambda images=images: ours(mine, images)
        ways["ours, seen before"] = lambda images=images: ours(mine, images, kept=True)
        figures[name] = milliseconds(ways, arguments.iterations)
    print("\nMilliseconds for the embeddings of all photos and the keypoints of the first: median, (times ours)")
    common.print_table(["", *next(iter(figures.values()))], [
        [name, *(f"{value:.1f}" + (f" ({value / row['ours']:.1f})" if way.startswith("original") else "")
                 for way, value in row.items())] for name, row in figures.items()])
    return figures


def measure_steps(root, arguments):
    """Milliseconds of our steps, {photos: {step: median}}."""
    analysis = open_ours(root, arguments.provider)
    from instantid_swift import faces
    from instantid_swift.caches import tensor_key
    from instantid_swift.faces.photos import detect_faces
    from instantid_swift.utils import draw_keypoints, image_to_bgr
    figures = {}
    for name, images in photos(arguments.quick).items():
        look = faces.Photos(analysis, images)
        chosen = look.chosen
        steps = {"key of the content": lambda images=images: tensor_key(images),
                 "to pixels": lambda images=images: [image_to_bgr(image) for image in images],
                 "detection": lambda look=look: detect_faces(look.pictures, look.detector, look.passes)}
        if any(chosen):
            steps["alignment, embedding"] = lambda look=look: [look.embed(index, face) for index, face in enumerate(look.chosen)
                                                               if face]
            steps["drawing"] = lambda images=images, chosen=chosen: draw_keypoints(*images.shape[1:3], chosen[0].points)
        figures[name] = milliseconds(steps, arguments.iterations)
    print("\nMilliseconds of our steps: median")
    head = list(next(iter(figures.values())))
    common.print_table(["", *head], [[name, *(f"{row[step]:.1f}" if step in row else "" for step in head)]
                                     for name, row in figures.items()])
    return figures


OPEN = """
import json, sys, time
sys.path[:0] = {path!r}
import onnx, onnxruntime, insightface.app, torch
from benchmarks.stages import faces
import benchmarks.original_way.faces
import runtime
runtime.import_pack()
import instantid_swift.faces.analysis

def megabytes(what):  # of this process: VmRSS now, VmHWM at most so far
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) * 1024 / 1e6

before, start = megabytes("VmRSS"), time.perf_counter()
analysis = getattr(faces, sys.argv[1])(sys.argv[2], sys.argv[3])
print(json.dumps({{"seconds": time.perf_counter() - start, "megabytes": megabytes("VmRSS") - before,
                   "most_megabytes": megabytes("VmHWM") - before}}))
"""


def measure_opening(roots, provider, openings):
    """What opening takes in a new process in which all modules are there, {folder: {way: {what: median}}}. Linux only."""
    script = OPEN.format(path=[str(CHECKOUT), str(CHECKOUT / "dev"), str(CHECKOUT / "tests")])
    figures = {}
    for name, root in roots.items():
        taken = {"open_original": [], "open_ours": []}
        for _ in range(openings):  # of several the first reads the files into the system's cache
            for function, results in taken.items():
                done = subprocess.run([sys.executable, "-c", script, function, str(root), provider], capture_output=True,
                                      text=True, check=True)
                results.append(json.loads(done.stdout.splitlines()[-1]))
        figures[name] = {function.removeprefix("open_"): {
            what: round(statistics.median(result[what] for result in results[-OPENINGS:]), 3) for what in results[0]}
            for function, results in taken.items()}
    print("\nOpening the networks: median; memory after it, and most while it lasted")
    ways = ("original", "ours")
    common.print_table(["", *(f"{way}, {what}" for what in ("s", "MB", "most MB") for way in ways)], [
        [name, *(f"{row[way][what]:.{digits}f}" for what, digits in (("seconds", 2), ("megabytes", 0), ("most_megabytes", 0))
                 for way in ways)] for name, row in figures.items()])
    return figures
