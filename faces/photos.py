"""From photos to faces: detection, the choice of a face, its embedding, the drawing of its keypoints.

Each photo is searched once. The result is kept, and the embedding and the drawing are made from it.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from .. import caches
from ..host.progress import progress_bar, throw_if_interrupted
from ..host.server import tell
from ..resampler import EMBEDDING_WIDTH
from ..utils import check_photos, draw_keypoints, image_size, image_to_bgr, pictures_to_image
from .analysis import FaceAnalysis, find_embedder
from .choice import LARGEST, Face
from .detector import OVERLAP, THRESHOLD, Detector
from .model_files import FaceModelError

FIRST_SIZE = 640                           # the size at which every face is looked for first
SMALLER_SIZES = tuple(range(576, 127, -64))  # for faces that fill their picture: the detector knows faces in a scene
LARGER_SIZES = (1024, 1536, 2048)          # for small faces in big pictures, where the analysis asks for it
CROPS_AT_ONCE = 32                         # of one run of the embedder: bounds its memory


class NoFaceError(Exception):
    """A picture has no face that the detector can find, or none of a batch has."""
    __module__ = "InstantID"  # what the editor shows before the name


class DetectionPass(NamedTuple):
    """One way to look at a picture."""
    size: tuple            # width and height of the network's input
    margins: bool = False  # the picture in the middle third of that
    longer_than: int = 0   # only pictures with a longer side

    def __str__(self):
        return f"{self.size[0]} with margins" if self.margins else str(self.size[0])


def detection_passes(detector, small_faces):
    """Returns the passes that a detector is capable of, in the order in which they are tried.

    Margins help most where the detector has a single size: they show it a face that fills the frame at a third of that size.
    """
    if detector.fixed_size:
        return [DetectionPass(detector.fixed_size), DetectionPass(detector.fixed_size, margins=True)]
    larger = [DetectionPass((size, size), longer_than=before)
              for before, size in zip((FIRST_SIZE, *LARGER_SIZES), LARGER_SIZES, strict=False)] if small_faces else []
    smaller = [DetectionPass((size, size)) for size in SMALLER_SIZES]
    first = (FIRST_SIZE, FIRST_SIZE)
    all_passes = (DetectionPass(first), *larger, *smaller, DetectionPass(first, margins=True))
    return [one_pass for one_pass in all_passes if detector.fits(one_pass.size)]


class Photos:
    """A batch of photos, IMAGE [n, h, w, c], under a FACEANALYSIS of ours or insightface's. Lives for one call."""

    def __init__(self, analysis, images, small_faces=False):
        """small_faces: look closer at big pictures in which no face was found at first."""
        check_photos(images)
        model = getattr(analysis, "det_model", None)
        if not hasattr(model, "session"):
            raise FaceModelError(f"The face analysis given ({type(analysis).__name__}) is none of insightface's kind. Connect "
                                 "InstantID Face Analysis.")
        ours = isinstance(analysis, FaceAnalysis)
        self.images = images
        self.detector = model.detector if ours else Detector(model.session)
        self.thresholds = getattr(model, "det_thresh", THRESHOLD), getattr(model, "nms_thresh", OVERLAP)
        self.passes = detection_passes(self.detector, small_faces)
        self.recognition = find_embedder(analysis)
        networks = analysis.key if ours else tuple(map(caches.object_key, filter(None, (model, self.recognition))))
        self.key = (caches.tensor_key(images), networks, self.thresholds, small_faces)

    @functools.cached_property
    def pictures(self):
        return [image_to_bgr(image) for image in self.images]

    @functools.cached_property
    def found(self):
        """Faces of each photo."""
        return caches.faces.get_or_make(
            self.key, lambda: detect_faces(self.pictures, self.detector, self.passes, self.thresholds))

    def chosen(self, choice):
        """The face of each photo that is meant, None where there is none at all. FaceIndexError where there are too few."""
        return [choice.of(faces, (self.images.shape[2], self.images.shape[1]), index) if faces else None
                for index, faces in enumerate(self.found)]

    def nobody(self, chosen):
        """'The image (300x200 pixels) shows no face', and the like for several: for messages."""
        missing = [str(index) for index, face in enumerate(chosen) if face is None]
        size = f"({image_size(self.images)} pixels)"
        if len(chosen) == 1:
            return f"The image {size} shows no face"
        if len(missing) == len(chosen):
            return f"None of the {len(chosen)} images {size} shows a face"
        images, show = ("image", "shows") if len(missing) == 1 else ("images", "show")
        return (f"The {images} at index {', '.join(missing)} of a batch of {len(chosen)}, whose first is at 0, {size} {show} "
                "no face")

    def refuse_missing(self, chosen):
        """NoFaceError, which says what was tried."""
        advice = "Use a photo in which the face is visible from the front and not cut off."
        if max(self.images.shape[1:3]) > FIRST_SIZE and not any(one.longer_than for one in self.passes):
            advice += " For a small face in a big picture, turn on small_faces in InstantID Options, connected to this node."
        raise NoFaceError(f"Reference Image: No face detected. {self.nobody(chosen)}. {advice} "
                          f"The detector looked at the sizes {', '.join(map(str, self.passes))}.")

    def report_missing(self, chosen):
        if None in chosen:
            tell(f"{self.nobody(chosen)}: left out.")

    def embed(self, chosen):
        """Embeddings of the chosen faces, float32 [N, 1, 512]."""
        from insightface.utils import face_align
        if self.recognition is None:
            raise FaceModelError("The face analysis given has no embedder. Connect InstantID Face Analysis.")
        side = self.recognition.input_size[0]
        if side % 112 and side % 128:
            raise FaceModelError(f"The embedder reads faces of {side} pixels; InstantID's reads 112. Connect InstantID Face "
                                 "Analysis.")
        crops = [face_align.norm_crop(picture, face.points, side)
                 for picture, face in zip(self.pictures, chosen, strict=True) if face]
        at_once = 1 if isinstance(self.recognition.input_shape[0], int) else CROPS_AT_ONCE
        vectors = []
        for start in range(0, len(crops), at_once):
            throw_if_interrupted()
            vectors.append(self.recognition.get_feat(crops[start:start + at_once]))
        vectors = np.concatenate(vectors).astype(np.float32)
        if vectors.shape[1:] != (EMBEDDING_WIDTH,) or not np.isfinite(vectors).all():
            raise FaceModelError(f"The embedder gives {list(vectors.shape[1:])} numbers for a face, or some that are not "
                                 f"finite; InstantID needs {EMBEDDING_WIDTH}. Use antelopev2's glintr100.onnx.")
        return torch.from_numpy(vectors)[:, None]


def detect_faces(pictures, detector, passes, thresholds=(THRESHOLD, OVERLAP)):
    """Faces of each picture by the first pass that finds any: a tuple of tuples of `Face`, most certain first.

    pictures: uint8 BGR [h, w, 3] each, of any sizes. Those that have no face yet go through a pass together.
    """
    found = [()] * len(pictures)
    progress = progress_bar(len(pictures))
    for one_pass in passes:
        pool = [index for index, faces in enumerate(found) if not faces and max(pictures[index].shape) > one_pass.longer_than]
        results = detector.detect([pictures[index] for index in pool], one_pass.size, *thresholds, margins=one_pass.margins)
        for index in pool:
            throw_if_interrupted()
            boxes, points = next(results)
            boxes.flags.writeable = points.flags.writeable = False
            seen_at = one_pass.size[0] // 3 if one_pass.margins else one_pass.size[0]
            found[index] = tuple(Face(box[:4], float(box[4]), five, seen_at)
                                 for box, five in zip(boxes, points, strict=True))
            progress(sum(map(bool, found)))
    progress(len(pictures))
    return tuple(found)


def find_faces(analysis, images, small_faces=False):
    """All faces of each photo, as found by the first pass that finds any: a tuple of tuples of `Face`, most certain first.

    analysis: FACEANALYSIS, ours or insightface's. images: IMAGE [n, h, w, c]. small_faces: look closer at big pictures in
    which no face was found at first.
    """
    return Photos(analysis, images, small_faces).found


def reference_embeddings(analysis, images, choice=LARGEST, require_all=False, small_faces=False):
    """ArcFace embeddings of the chosen face of each photo: float32 [N, 1, 512] on the CPU, not normalised.

    Photos without a face are left out. NoFaceError if that leaves none, or with require_all if any has none; FaceIndexError
    where there are too few.
    """
    photos = Photos(analysis, images, small_faces)
    chosen = photos.chosen(choice)
    if not any(chosen) or require_all and None in chosen:
        photos.refuse_missing(chosen)
    photos.report_missing(chosen)
    return caches.embeddings.get_or_make((*photos.key, choice), lambda: photos.embed(chosen)).clone()


def keypoint_images(analysis, images, choice=LARGEST, require_all=False, first_only=False, small_faces=False):
    """The keypoints of the chosen face of each photo, drawn at its size: IMAGE [N, h, w, 3], float32 on the CPU.

    Photos without a face are left out; None if that leaves none. first_only: draw the first photo's alone. NoFaceError with
    require_all if any has no face; FaceIndexError where there are too few.
    """
    photos = Photos(analysis, images, small_faces)
    chosen = photos.chosen(choice)
    if require_all and None in chosen:
        photos.refuse_missing(chosen)
    if first_only:  # all photos are searched all the same: the embeddings need them, and the result is kept
        chosen = chosen[:1]
    elif any(chosen):
        photos.report_missing(chosen)
    height, width = images.shape[1:3]
    drawn = [draw_keypoints(height, width, face.points) for face in chosen if face]
    return pictures_to_image(drawn) if drawn else None
