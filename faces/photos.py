"""From photos to faces: detection, the choice of a face, its embedding, the drawing of its keypoints.

Each photo is searched once, whichever batch it comes in. Its faces are kept, and so are their embeddings.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from .. import caches, performance
from ..host.progress import progress_bar, throw_if_interrupted
from ..host.server import tell
from ..resampler import EMBEDDING_WIDTH
from ..utils import LEAST_OF_BYTES, check_photos, draw_keypoints, image_size, image_to_bgr, pictures_to_image
from .analysis import FaceAnalysis, find_embedder
from .choice import LARGEST, Face
from .detector import OVERLAP, THRESHOLD, Detector
from .model_files import FaceModelError

FIRST_SIZE = 640                           # the size at which every face is looked for first
SMALLER_SIZES = tuple(range(576, 127, -64))  # for faces that fill their picture: the detector knows faces in a scene
LARGER_SIZES = (1024, 1536, 2048)          # for small faces in big pictures, where the analysis asks for it


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


class AnalysedPicture(NamedTuple):
    """What is kept of one picture."""
    faces: tuple      # of `Face`, most certain first
    embeddings: dict  # FaceChoice -> float32 [512] of the chosen face, not normalised; filled when they are asked for


class Photos:
    """A batch of photos, IMAGE [n, h, w, c], under a FACEANALYSIS of ours or insightface's. Lives for one call of a node."""

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
        self._settings = networks, self.thresholds, small_faces

    @functools.cached_property
    def pictures(self):
        return [image_to_bgr(image) for image in self.images]

    @functools.cached_property
    def analysed(self):
        """An AnalysedPicture of each photo. Those not seen before go through the detector together, equal ones once."""
        keys = [(caches.tensor_key(image), *self._settings) for image in self.images]
        with performance.stage("detect", caches.pictures.name):
            known = {key: caches.pictures.look_up(key) for key in keys}
            new = [index for index, key in enumerate(keys) if known[key] is None and keys.index(key) == index]
            found = detect_faces([self.pictures[index] for index in new], self.detector, self.passes, self.thresholds)
            for index, faces in zip(new, found, strict=True):
                known[keys[index]] = AnalysedPicture(faces, {})
                caches.pictures.keep(keys[index], known[keys[index]])
        return [known[key] for key in keys]

    @property
    def found(self):
        """Faces of each photo."""
        return tuple(picture.faces for picture in self.analysed)

    def chosen(self, choice):
        """The face of each photo that is meant, None where there is none at all. FaceIndexError where there are too few."""
        return [choice.of(faces, (self.images.shape[2], self.images.shape[1]), index) if faces else None
                for index, faces in enumerate(self.found)]

    def references(self, choice=LARGEST, require_all=False):
        """ArcFace embeddings of the chosen face of each photo: float32 [N, 1, 512] on the CPU, not normalised.

        Photos without a face are left out. NoFaceError if that leaves none, or with require_all if any has none; FaceIndexError
        where there are too few.
        """
        chosen = self.chosen(choice)
        if not any(chosen) or require_all and None in chosen:
            self.refuse_missing(chosen)
        self.report_missing(chosen)
        return torch.stack([self.embedding(index, face, choice) for index, face in enumerate(chosen) if face])[:, None]

    def drawing(self, choice=LARGEST, require_all=False, first_only=False):
        """The keypoints of the chosen face of each photo, drawn at its size: IMAGE [N, h, w, 3], float32 on the CPU.

        Photos without a face are left out; None if that leaves none. first_only: draw the first photo's alone. NoFaceError
        with require_all if any has no face; FaceIndexError where there are too few.
        """
        chosen = self.chosen(choice)
        if require_all and None in chosen:
            self.refuse_missing(chosen)
        if first_only:  # all photos are searched all the same: the embeddings need them, and the result is kept
            chosen = chosen[:1]
        elif any(chosen):
            self.report_missing(chosen)
        height, width = self.images.shape[1:3]
        drawn = [draw_keypoints(height, width, face.points) for face in chosen if face]
        return pictures_to_image(drawn) if drawn else None

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
        most = float(self.images.max())
        if most > LEAST_OF_BYTES:
            advice = (f"The values of the image go up to {most:g}, where those of an IMAGE go up to 1: divide them by 255 "
                      "before this node.")
        raise NoFaceError(f"Reference Image: No face detected. {self.nobody(chosen)}. {advice} "
                          f"The detector looked at the sizes {', '.join(map(str, self.passes))}.")

    def report_missing(self, chosen):
        if None in chosen:
            tell(f"{self.nobody(chosen)}: left out.")

    def embedding(self, index, face, choice):
        """The embedding of the chosen face of one photo: float32 [512], kept with the photo."""
        kept = self.analysed[index].embeddings
        with performance.stage("embed"):
            performance.cache_result("embed", choice in kept)
            if choice not in kept:
                kept[choice] = self.embed(index, face)
        return kept[choice]

    def embed(self, index, face):
        """The embedding of a face of one photo, float32 [512].

        Each face is a run of its own: in a batch its last digits might depend on the others.
        """
        from insightface.utils import face_align
        if self.recognition is None:
            raise FaceModelError("The face analysis given has no embedder. Connect InstantID Face Analysis.")
        side = self.recognition.input_size[0]
        if side % 112 and side % 128:
            raise FaceModelError(f"The embedder reads faces of {side} pixels; InstantID's reads 112. Connect InstantID Face "
                                 "Analysis.")
        throw_if_interrupted()
        vector = self.recognition.get_feat([face_align.norm_crop(self.pictures[index], face.points, side)])[0]
        if vector.shape != (EMBEDDING_WIDTH,) or not np.isfinite(vector).all():
            raise FaceModelError(f"The embedder gives {list(vector.shape)} numbers for a face, or some that are not "
                                 f"finite; InstantID needs {EMBEDDING_WIDTH}. Use antelopev2's glintr100.onnx.")
        return torch.from_numpy(vector.astype(np.float32))


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
    """All faces of each photo: `Photos.found`."""
    return Photos(analysis, images, small_faces).found


def reference_embeddings(analysis, images, choice=LARGEST, require_all=False, small_faces=False):
    """Embeddings of the chosen faces: `Photos.references`."""
    return Photos(analysis, images, small_faces).references(choice, require_all)


def keypoint_images(analysis, images, choice=LARGEST, require_all=False, first_only=False, small_faces=False):
    """Drawings of the chosen faces: `Photos.drawing`."""
    return Photos(analysis, images, small_faces).drawing(choice, require_all, first_only)
