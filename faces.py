"""From photos to faces: who is in a picture, whose face is taken, its embedding, its keypoints as a drawing."""

from typing import NamedTuple

import numpy as np
import torch

from . import caches
from .face_detector import Detector
from .utils import draw_keypoints, image_size, image_to_bgr, pictures_to_image

# what the detector sees, largest first: a face that fills its picture is found only when that is made small
DETECTION_SIZES = tuple((size, size) for size in range(640, 127, -64))


class NoFaceError(Exception):
    """No picture of a batch has a face that the detector can find."""


class Face(NamedTuple):
    """One detected face. Arrays are read-only."""
    box: np.ndarray     # float32 [4]: left, top, right, bottom, in pixels
    score: float        # the detector's certainty, 0..1
    points: np.ndarray  # float32 [5, 2]: left eye, right eye, nose, left and right corner of the mouth
    size: int           # width at which the detector saw the picture

    @property
    def area(self):
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


def find_faces(analysis, images):
    """All faces of each picture, as found at the largest detection size that finds any.

    analysis: FACEANALYSIS, ours or insightface's. images: IMAGE [n, h, w, c]. Returns a tuple of n tuples of `Face`, best
    score first.
    """
    key = (caches.tensor_key(images), _analysis_key(analysis))
    return caches.faces.get_or_make(key, lambda: _detect(analysis, images), _bytes_of_faces)


def _detect(analysis, images):
    detector = Detector(analysis.det_model)
    pictures = [image_to_bgr(image) for image in images]
    found = [()] * len(pictures)
    for size in detector.sizes(DETECTION_SIZES):
        pool = [index for index, faces in enumerate(found) if not faces]
        if not pool:
            break
        for index, (boxes, points) in zip(pool, detector.detect([pictures[i] for i in pool], size), strict=True):
            boxes.flags.writeable = points.flags.writeable = False
            found[index] = tuple(Face(box[:4], float(box[4]), five, size[0])
                                 for box, five in zip(boxes, points, strict=True))
    return tuple(found)


def _bytes_of_faces(found):
    return 1000 * (1 + sum(map(len, found)))  # objects and array headers, not the few numbers, make the size


def _analysis_key(analysis):
    return getattr(analysis, "key", None) or caches.object_key(analysis)


def largest(faces):
    """The face with the largest box, the more certain one of two equals."""
    return max(faces, key=lambda face: face.area)


def reference_embeddings(analysis, images):
    """ArcFace embeddings of the largest face of each picture: float32 [N, 1, 512] on the CPU, not normalised.

    Pictures without a face are left out. NoFaceError if that leaves none.
    """
    found = find_faces(analysis, images)
    if not any(found):
        sizes = ", ".join(str(size) for size, _ in Detector(analysis.det_model).sizes(DETECTION_SIZES))
        which = "The image" if len(images) == 1 else f"None of the {len(images)} images"
        raise NoFaceError(
            f"Reference Image: No face detected. {which} ({image_size(images)} pixels) has a face that the detector finds at "
            f"the sizes {sizes}. Use a photo in which the face is visible from the front and not cut off.")
    key = (caches.tensor_key(images), _analysis_key(analysis))
    return caches.embeddings.get_or_make(key, lambda: _embed(analysis, images, found),
                                         lambda kept: kept.numel() * kept.element_size()).clone()


def _embed(analysis, images, found):
    from insightface.utils import face_align
    recognition = analysis.models["recognition"]
    crops = [face_align.norm_crop(image_to_bgr(image), largest(faces).points, recognition.input_size[0])
             for image, faces in zip(images, found, strict=True) if faces]
    at_once = 1 if isinstance(recognition.input_shape[0], int) else len(crops)
    vectors = [recognition.get_feat(crops[i:i + at_once]) for i in range(0, len(crops), at_once)]
    return torch.from_numpy(np.concatenate(vectors).astype(np.float32))[:, None]


def keypoint_images(analysis, images, first_only=False):
    """The keypoints of the largest face of each picture, drawn at its size: IMAGE [N, h, w, 3], float32 on the CPU.

    Pictures without a face are left out; None if that leaves none. first_only: draw the first picture's alone.
    """
    height, width = images.shape[1:3]
    found = find_faces(analysis, images)  # of all, where only one is drawn: it is the same look that gives the embeddings
    drawn = [draw_keypoints(height, width, largest(faces).points) for faces in found[:1 if first_only else None] if faces]
    return pictures_to_image(drawn) if drawn else None
