"""Ordinary and replayed samplings of the same workflow, and what replay says."""

from instantid_swift.options import Options
from instantid_swift.replay import graphs
from oracle import cases
from oracle import fixtures as fx

SMALL = {"steps": 3, "size": (8, 8)}


def captured():
    """How many captures were made, of the UNet and of IdentityNet together."""
    return sum(replays.captured for replays in graphs._of_modules.values())


def apply(nodes, world, replay=False, attention="exact", **over):
    """Apply InstantID, and InstantID Replay after it where wanted."""
    wired = cases.apply(nodes, world, options=Options(attention=attention), **over)
    return cases.call(nodes, "InstantIDReplay", **dict(zip(("model", "positive", "negative"), wired, strict=True))) \
        if replay else wired


def pair(nodes, world, sampling=None, **over):
    """(latents of an ordinary run, latents of a replayed one)."""
    sampling = {**SMALL, **(sampling or {})}
    return [fx.sample(*apply(nodes, world, replay, **over), **sampling) for replay in (False, True)]


def said(caplog):
    return [record.getMessage() for record in caplog.records if "Replay steps aside" in record.getMessage()]


def line(reason):
    return f"InstantID: Replay steps aside: {reason}. The sampling runs as usual, with the same picture."
