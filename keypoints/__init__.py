"""Faces' five points as data. In: points in pixels of a picture. Out: `Keypoints`, what travels along KEYPOINTS, and their
drawing as IdentityNet reads it. Imports without ComfyUI.
"""

from .value import KeypointFace, Keypoints, draw

__all__ = ["KeypointFace", "Keypoints", "draw"]
