"""Settings beside the original's widgets. In: the widgets of InstantID Options. Out: `Options`, which every node with a socket
`options` reads; `DEFAULTS` are what the original does.
"""

from .settings import DEFAULTS, Options

__all__ = ["DEFAULTS", "Options"]
