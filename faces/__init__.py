"""Photos to faces. In: IMAGE batches and a FACEANALYSIS, ours or insightface's. Out: the chosen face of each photo as an
ArcFace embedding [N, 1, 512], as a drawing of its five points, or as what the detector found. Imports without ComfyUI.
"""

from .analysis import open_face_analysis
from .model_files import state_of_networks
from .photos import LARGEST, ORDERS, FaceChoice, NoFaceError, Photos
from .providers import PROVIDERS

__all__ = ["LARGEST", "ORDERS", "PROVIDERS", "FaceChoice", "NoFaceError", "Photos", "open_face_analysis", "state_of_networks"]
