"""Nodes as tests wire them, beside those that the oracle wires."""
