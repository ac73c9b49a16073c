"""Faces by insightface as it comes: all networks of the folder are opened, and those but the detector run on every face.

Whoever asks for something of a photo has it analysed anew.
"""

import numpy as np
import torch

from .formulas import ours

SIZES = range(640, 128, -64)  # insightface 1.0 and later looks at the first size each time, whatever is set

utils = ours("utils")


def open_analysis(root, provider):
    """insightface's FaceAnalysis of root/models/antelopev2."""
    from insightface.app import FaceAnalysis
    analysis = FaceAnalysis(name="antelopev2", root=str(root), providers=[f"{provider}ExecutionProvider"])
    analysis.prepare(ctx_id=0, det_size=(SIZES[0], SIZES[0]))
    return analysis


def largest_face(analysis, image):
    """The face with the largest box of a photo [h, w, 3], found at the first size that shows any; None without one."""
    pixels = (image * 255).clamp(0, 255).to(torch.uint8).cpu().numpy()  # in the image's own precision
    picture = np.ascontiguousarray(pixels[:, :, 2::-1])
    for size in SIZES:
        analysis.det_model.input_size = (size, size)
        found = analysis.get(picture)
        if found:
            return max(found, key=lambda face: (face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1]))
    return None


def embeddings(analysis, images):
    """Of every photo with a face: float32 [N, 1, 512]; None without any."""
    found = [torch.from_numpy(face.embedding)[None] for image in images if (face := largest_face(analysis, image))]
    return torch.stack(found) if found else None


def drawn_keypoints(analysis, images):
    """Of every photo with a face: IMAGE [N, h, w, 3]; None without any."""
    size = images.shape[1:3]
    found = [utils.draw_keypoints(*size, face.kps) for image in images if (face := largest_face(analysis, image))]
    return utils.pictures_to_image(found) if found else None
