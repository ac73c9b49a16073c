"""The stages, each a module in the folder of its subject, with `add_arguments(parser)` and `run(arguments)`.

start    before the first picture: importing the pack, opening the adapter
photos   faces found and embedded
steps    sampling: time, host reads, copies, clones, replay
server   whole workflows on a real ComfyUI server
hostile  inputs that nobody should send

A further stage is one module in such a folder and one line in STAGES; README.md of the benchmarks says more.
"""

from typing import NamedTuple


class Stage(NamedTuple):
    """A module with add_arguments(parser) for options of its own, and run(arguments) to measure, {name: figure}."""
    module: str  # below this folder
    summary: str
    options: tuple = ()  # common options that change what it measures
    in_all: bool = True  # whether `all` runs it without being asked; not what takes long or needs one's own files


STAGES = {  # in the order in which `all` runs them
    "imports": Stage("start.imports", "what the pack adds to ComfyUI's start"),
    "load": Stage("start.load", "opening a real-size adapter file"),
    "faces": Stage("photos.faces", "finding and embedding faces, against insightface used as the original uses it"),
    "likeness": Stage("photos.likeness", "likeness and time of each way to apply InstantID, on one's own models and photos",
                      ("--resolution", "--device"), in_all=False),
    "sampling": Stage("steps.sampling", "a step of sampling with and without an identity",
                      ("--batch-sizes", "--resolution", "--dtype", "--device", "--baseline")),
    "rerun": Stage("server.rerun", "runs of one workflow on a real server, beside the sampling", ("--baseline",)),
    "replay": Stage("steps.replay", "sampling replayed as CUDA graphs, beside the ordinary calls and the baseline",
                    ("--batch-sizes", "--resolution", "--dtype", "--device", "--baseline")),
    "claims": Stage("steps.claims", "clones, re-runs, keys of caches: what was claimed and no other stage measures",
                    ("--baseline",)),
    "transfers": Stage("steps.transfers", "what is copied between host and device, and read back",
                       ("--resolution", "--dtype", "--device")),
    "hostile": Stage("hostile", "inputs that nobody should send: each must be taken, or refused in a sentence", in_all=False),
    "soak": Stage("steps.soak", "memory of a process in which persons change, with a sampling after each", in_all=False),
}
