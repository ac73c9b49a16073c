"""The pack that ours is measured against: the stand-in for the original, or a real one."""

from pathlib import Path

STAND_IN = Path(__file__).resolve().parent / "original_way"


def add_argument(parser):
    parser.add_argument("--baseline", type=Path, help="a pack with the original's node ids, to be measured beside ours; "
                                                      "default: original_way, a stand-in for the original")


def title(arguments):
    return "baseline" if arguments.baseline else "stand-in of the original"


def folder(arguments):
    return arguments.baseline.resolve() if arguments.baseline else STAND_IN


def node_classes(arguments):
    """Its NODE_CLASS_MAPPINGS, in this process."""
    import runtime
    return runtime.import_pack("baseline", folder(arguments)).NODE_CLASS_MAPPINGS
