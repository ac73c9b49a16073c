"""From photos to faces: detection sizes, the choice of a face, its embedding, the drawing of its keypoints.

Each photo is searched once, whichever batch it comes in. Its faces are kept, and so are their embeddings.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from .. import caches, performance
from ..host.server import progress_bar, throw_if_interrupted
from ..resampler import EMBEDDING_WIDTH
from ..utils import MOST_HDR, InstantIDError, check_photos, draw_keypoints, image_to_bgr, pictures_to_image
from .analysis import FaceAnalysis, find_embedder
from .detector import OVERLAP, THRESHOLD, Detector

FIRST_SIZE = 640                           # the size at which every face is looked for first
SMALLER_SIZES = tuple(range(576, 127, -64))  # for faces that fill their picture: the detector knows faces in a scene
LARGER_SIZES = (1024, 1536, 2048)          # for small faces in big pictures, with small_faces


class NoFaceError(InstantIDError):
    """The detector finds no face in a picture, or in any of a batch."""
    __module__ = "InstantID"


class Face(NamedTuple):
    """One detected face. Arrays are read-only."""
    box: np.ndarray     # float32 [4]: left, top, right, bottom, in pixels
    score: float        # the detector's certainty, 0..1
    points: np.ndarray  # float32 [5, 2]: left eye, right eye, nose, left and right corner of the mouth
    size: int           # width of the frame into which the picture was shrunk for the detector

    @property
    def area(self):
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def centre(self):
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2


# {order: function(face, (width, height) of its picture)}; the face with the least result comes first
_RANKS = {
    "largest": lambda face, size: -face.area,
    "left to right": lambda face, size: face.centre[0],
    "right to left": lambda face, size: -face.centre[0],
    "top to bottom": lambda face, size: face.centre[1],
    "most central": lambda face, size: (face.centre[0] - size[0] / 2) ** 2 + (face.centre[1] - size[1] / 2) ** 2,
    "most certain": lambda face, size: -face.score,
}
ORDERS = list(_RANKS)


class FaceChoice(NamedTuple):
    """The choice of one face of a picture: the one at `index`, from 0, in an order of ORDERS."""
    order: str = "largest"
    index: int = 0

    def sort(self, faces, size):
        """Returns a picture's faces in the order. Of equals the more certain comes first.

        faces: `Face`s, most certain first. size: (width, height) of the picture.
        """
        return sorted(faces, key=lambda face: _RANKS[self.order](face, size))


LARGEST = FaceChoice()


class DetectionPass(NamedTuple):
    """One run of the detector over pictures."""
    size: tuple            # width and height of the network's input
    margins: bool = False  # the picture fills the middle third of that
    longer_than: int = 0   # only pictures whose longer side has more pixels

    def __str__(self):
        return f"{self.size[0]} with margins" if self.margins else str(self.size[0])


def detection_passes(detector, small_faces):
    """Returns the passes that a detector can run, in the order in which they are tried.

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
    """The faces of one picture, and their embeddings."""
    faces: tuple      # of `Face`, most certain first
    embeddings: dict  # FaceChoice -> float32 [512] of the chosen face, not normalised; filled when they are asked for


class Photos:
    """A batch of photos and the faces in it. Lives for one call of a node."""

    def __init__(self, analysis, images, choice=LARGEST, require_all=False, small_faces=False, any_angle=False):
        """analysis: FACEANALYSIS, ours or insightface's. images: IMAGE [n, h, w, c]. choice: the face of each photo to use.
        require_all: whether each photo must show a face. small_faces: adds larger detection sizes for big pictures.
        any_angle: looks at photos turned by quarters of a circle, too."""
        check_photos(images)
        model = getattr(analysis, "det_model", None)
        if not hasattr(model, "session"):
            raise InstantIDError(f"The face analysis given ({type(analysis).__name__}) is none of insightface's kind. Connect "
                                 "InstantID Face Analysis.")
        ours = isinstance(analysis, FaceAnalysis)
        self.images, self.choice, self.require_all = images, choice, require_all
        self.size = images.shape[2], images.shape[1]
        self.detector = model.detector if ours else Detector(model.session)
        self.thresholds = getattr(model, "det_thresh", THRESHOLD), getattr(model, "nms_thresh", OVERLAP)
        self.passes = detection_passes(self.detector, small_faces)
        self.recognition = find_embedder(analysis)
        networks = analysis.key if ours else tuple(map(caches.object_key, filter(None, (model, self.recognition))))
        self.any_angle = any_angle
        self._settings = networks, self.thresholds, small_faces, any_angle

    @functools.cached_property
    def pictures(self):
        """The photos as OpenCV has them: uint8 BGR [h, w, 3] each."""
        return [image_to_bgr(image) for image in self.images]

    @functools.cached_property
    def analysed(self):
        """An AnalysedPicture of each photo. Those not seen before go through the detector together, equal ones once."""
        keys = [(caches.tensor_key(image), *self._settings) for image in self.images]
        with performance.stage("find faces", caches.pictures.name):
            known = {key: caches.pictures.look_up(key) for key in keys}
            new = [index for index, key in enumerate(keys) if known[key] is None and keys.index(key) == index]
            found = detect_faces([self.pictures[index] for index in new], self.detector, self.passes, self.thresholds,
                                 self.any_angle)
            for index, faces in zip(new, found, strict=True):
                known[keys[index]] = AnalysedPicture(faces, {})
                caches.pictures.keep(keys[index], known[keys[index]])
        return [known[key] for key in keys]

    @property
    def found(self):
        """All faces of each photo, most certain first."""
        return tuple(picture.faces for picture in self.analysed)

    @functools.cached_property
    def chosen(self):
        """The chosen face of each photo, None where a photo shows no face. InstantIDError where one shows too few."""
        chosen, number = [], self.choice.index
        for index, faces in enumerate(self.found):
            if faces and number >= len(faces):
                known = "only face 0" if len(faces) == 1 else f"faces 0 to {len(faces) - 1}"
                raise InstantIDError(f"There is no face {number} in the image at index {index}: it shows {len(faces)} "
                                     f"face{'s' * (len(faces) != 1)}, so there {'is' if len(faces) == 1 else 'are'} {known}.")
            chosen.append(self.choice.sort(faces, self.size)[number] if faces else None)
        return chosen

    def references(self):
        """Returns ArcFace embeddings of the chosen faces: float32 [N, 1, 512] on the CPU, not normalised.

        Photos without a face are left out. NoFaceError if that leaves none, or with `require_all` if any has none.
        """
        if not any(self.chosen) or self.require_all and None in self.chosen:
            self.raise_no_face()
        return torch.stack([self.embedding(index, face) for index, face in enumerate(self.chosen) if face])[:, None]

    def drawing(self, first_only=False):
        """Returns the keypoints of the chosen face of each photo, drawn at its size: IMAGE [N, h, w, 3], float32 on the CPU.

        Photos without a face are left out; None if that leaves none. first_only: draw the first photo's alone. NoFaceError
        with `require_all` if any has no face.
        """
        if self.require_all and None in self.chosen:
            self.raise_no_face()
        width, height = self.size
        drawn = [draw_keypoints(height, width, face.points) for face in self.chosen[:1 if first_only else None] if face]
        return pictures_to_image(drawn) if drawn else None

    def describe_missing(self):
        """Returns 'The image (300x200 pixels) shows no face', and the like for several; an empty string if all show one."""
        count, missing = len(self.chosen), [str(index) for index, face in enumerate(self.chosen) if face is None]
        size = f"({self.size[0]}x{self.size[1]} pixels)"
        if not missing:
            return ""
        if count == 1:
            return f"The image {size} shows no face"
        if len(missing) == count:
            return f"None of the {count} images {size} shows a face"
        images, show = ("image", "shows") if len(missing) == 1 else ("images", "show")
        return f"The {images} at index {', '.join(missing)} of a batch of {count}, whose first is at 0, {size} {show} no face"

    def describe_no_face(self):
        """Returns sentences that say which photos show no face, what helps, and at which sizes the detector looked."""
        advice = "Use a photo in which the face is visible from the front and not cut off."
        if max(self.size) > FIRST_SIZE and not any(one.longer_than for one in self.passes):
            advice += " For a small face in a big picture, turn on small_faces in InstantID Options, connected to this node."
        if not self.any_angle:
            advice += " For a photo that lies on its side or stands on its head, turn on any_angle in InstantID Options."
        most = float(self.images.max())
        if most > MOST_HDR:
            advice = (f"The values of the image go up to {most:g}, where those of an IMAGE go up to 1: divide them by 255 "
                      "before this node.")
        return f"{self.describe_missing()}. {advice} The detector looked at the sizes {', '.join(map(str, self.passes))}."

    def raise_no_face(self):
        """Raises NoFaceError, which says at which sizes the detector looked."""
        raise NoFaceError(f"Reference Image: No face detected. {self.describe_no_face()}")

    def embedding(self, index, face):
        """Returns the embedding of the chosen face of one photo: float32 [512], kept with the photo."""
        kept = self.analysed[index].embeddings
        with performance.stage("recognise faces"):
            performance.count_lookup("recognise faces", self.choice in kept)
            if self.choice not in kept:
                kept[self.choice] = self.embed(index, face)
        return kept[self.choice]

    def embed(self, index, face):
        """Returns the embedding of any face of one photo, float32 [512].

        Each face is a run of its own: in a batch its last digits might depend on the others.
        """
        from insightface.utils import face_align
        if self.recognition is None:
            raise InstantIDError("The face analysis given has no embedder. Connect InstantID Face Analysis.")
        throw_if_interrupted()
        side = self.recognition.input_size[0]
        vector = self.recognition.get_feat([face_align.norm_crop(self.pictures[index], face.points, side)])[0]
        if vector.shape != (EMBEDDING_WIDTH,):
            raise InstantIDError(f"The embedder gives {list(vector.shape)} numbers for a face; InstantID needs "
                                 f"{EMBEDDING_WIDTH}. Use antelopev2's glintr100.onnx.")
        return torch.from_numpy(vector.astype(np.float32))


def detect_faces(pictures, detector, passes, thresholds=(THRESHOLD, OVERLAP), any_angle=False):
    """Returns the faces of each picture, by the first pass that finds any: a tuple of tuples of `Face`, most certain first.

    pictures: uint8 BGR [h, w, 3] each, of any sizes. Those that have no face yet go through a pass together. any_angle: each
    goes through it in four quarter turns. The turn with the most faces counts; of equals, the one with the highest scores.
    """
    found = [()] * len(pictures)
    quarters = range(4 if any_angle else 1)
    progress = progress_bar(len(pictures))
    for one_pass in passes:
        pool = [index for index, faces in enumerate(found) if not faces and max(pictures[index].shape) > one_pass.longer_than]
        turned = [np.ascontiguousarray(np.rot90(pictures[index], quarter)) for index in pool for quarter in quarters]
        results = detector.detect(turned, one_pass.size, *thresholds, margins=one_pass.margins)
        seen_at = one_pass.size[0] // 3 if one_pass.margins else one_pass.size[0]
        for index in pool:
            throw_if_interrupted()
            turns = [_faces_of(*next(results), quarter, pictures[index].shape, seen_at) for quarter in quarters]
            found[index] = max(turns, key=lambda faces: (len(faces), sum(face.score for face in faces)))
            progress(sum(map(bool, found)))
    progress(len(pictures))
    return tuple(found)


def _faces_of(boxes, points, quarter, shape, seen_at):
    """Returns a tuple of `Face` in the pixels of a picture [h, w, 3] that np.rot90 has turned by quarters for the detector."""
    places, scores = boxes[:, :4], boxes[:, 4]
    if quarter:
        corners, points = _turned_back(places.reshape(-1, 2, 2), quarter, shape), _turned_back(points, quarter, shape)
        places = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    places.flags.writeable = points.flags.writeable = False
    return tuple(Face(box, float(score), five, seen_at) for box, score, five in zip(places, scores, points, strict=True))


def _turned_back(points, quarter, shape):
    right, bottom = shape[1] - 1, shape[0] - 1
    x, y = points[..., 0], points[..., 1]
    return np.stack([(right - y, x), (right - x, bottom - y), (y, bottom - x)][quarter - 1], axis=-1)
