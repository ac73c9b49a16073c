"""Photos to faces. In: IMAGE batches and a FACEANALYSIS, ours or insightface's. Out: the chosen face of each photo as an
ArcFace embedding [N, 1, 512], as a drawing of its five points, or as what the detector found. Imports without ComfyUI.
"""

from .analysis import open_face_analysis
from .choice import LARGEST, ORDERS, FaceChoice
from .model_files import FaceModelError, state_of_networks
from .photos import NoFaceError, Photos, detect_faces, find_faces, keypoint_images, reference_embeddings
from .providers import PROVIDERS

__all__ = ["LARGEST", "ORDERS", "PROVIDERS", "FaceChoice", "FaceModelError", "NoFaceError", "Photos", "detect_faces",
           "find_faces", "keypoint_images", "open_face_analysis", "reference_embeddings", "state_of_networks"]
