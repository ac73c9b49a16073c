"""Faces' five points as data. In: points in pixels of a picture. Out: `Keypoints`, the value of KEYPOINTS links, and their
drawing as IdentityNet reads it. Imports without ComfyUI.
"""

from .keypoints import MOST_SIDE, KeypointFace, Keypoints, draw, drawing, drawn, usable_keypoints

__all__ = ["MOST_SIDE", "KeypointFace", "Keypoints", "draw", "drawing", "drawn", "usable_keypoints"]
