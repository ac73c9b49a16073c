"""Settings besides the original's widgets. In: the widgets of InstantID Options. Out: `nodes.Options`, which every node with a
socket `options` reads.
"""
