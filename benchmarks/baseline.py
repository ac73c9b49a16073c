"""The pack that ours is measured against: the stand-in for the original, or a real one."""

from benchmarks import CHECKOUT

STAND_IN = CHECKOUT / "benchmarks" / "original_way"


def title(arguments):
    return "baseline" if arguments.baseline else "stand-in of the original"


def folder(arguments):
    return arguments.baseline.resolve() if arguments.baseline else STAND_IN


def node_classes(arguments):
    """Its NODE_CLASS_MAPPINGS, in this process."""
    import runtime
    return runtime.import_pack("baseline", folder(arguments)).NODE_CLASS_MAPPINGS
