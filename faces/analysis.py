"""FACEANALYSIS: the opened face networks, with the interface of insightface's `FaceAnalysis`.

The detector and the embedder are opened at once. The folder's other networks (landmarks, gender and age) are opened when
another pack asks for them.
"""

import functools
import logging
import os

import numpy as np

from .. import caches
from ..utils import InstantIDError, what_is_wrong
from .detector import OVERLAP, THRESHOLD, Detector
from .model_files import DETECTION, RECOGNITION, SOURCE, find_networks
from .providers import describe_fallback, import_packages, open_session

log = logging.getLogger(__name__)


def open_face_analysis(roots, provider):
    """Returns FACEANALYSIS: the networks of antelopev2 on the given provider, or on the CPU without it.

    roots: folders of ComfyUI's kind insightface. The object is shared as long as it is in use and its files are unchanged.
    InstantIDError if something is missing.
    """
    import_packages()
    paths = find_networks(roots)
    key = (provider, *map(caches.file_key, paths.values()))
    return caches.analyses.get_or_make(key, lambda: FaceAnalysis(paths, provider, key), "load face networks")


def find_embedder(analysis):
    """Returns the embedder of a FACEANALYSIS, ours or insightface's, None where it has none. Opens no further network."""
    return analysis.recognition if isinstance(analysis, FaceAnalysis) else getattr(analysis, "models", {}).get(RECOGNITION)


class FaceAnalysis:
    """Has what other packs use of insightface's class of this name: get, det_model, models, prepare.

    key: the identity of files and settings, for caches. bytes: of the networks' files, as a measure of what they take once
    opened. fallback: the reason for using the CPU in place of the provider, and a remedy; else an empty string.
    """

    def __init__(self, paths, provider, key):
        """paths: {task: ONNX file}, as `find_networks` gives it. provider: one of PROVIDERS."""
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX
        self.key = key
        self.bytes = sum(map(os.path.getsize, paths.values()))
        self._paths, self._provider = paths, provider
        self.det_model = DetectionModel(self._open(DETECTION))
        self.recognition = ArcFaceONNX(paths[RECOGNITION], self._open(RECOGNITION))
        self.fallback = describe_fallback(provider, self.det_model.session)

    def _open(self, task):
        """Returns a session of a task's network. InstantIDError where onnxruntime cannot open it."""
        path = self._paths[task]
        try:
            return open_session(path, self._provider)
        except Exception as error:  # onnxruntime's errors have no common class
            log.warning("%s cannot be opened: %s", path, error)
            raise InstantIDError(f"The face network {os.path.basename(path)} cannot be opened. {what_is_wrong(path)} {SOURCE}"
                                 ) from error

    @functools.cached_property
    def models(self):
        """{task: network} of the folder. Those that InstantID does not use are opened here."""
        from insightface.model_zoo import attribute, landmark
        others = {task: attribute.Attribute if task == "genderage" else landmark.Landmark
                  for task in self._paths if task not in (DETECTION, RECOGNITION)}
        return {DETECTION: self.det_model, RECOGNITION: self.recognition,
                **{task: kind(self._paths[task], self._open(task)) for task, kind in others.items()}}

    def prepare(self, ctx_id=0, det_thresh=THRESHOLD, det_size=(640, 640)):
        """Sets the detector's input size and threshold. ctx_id is ignored: the node has chosen the hardware."""
        self.det_model.prepare(ctx_id, input_size=det_size, det_thresh=det_thresh)

    def get(self, img, max_num=0, det_metric="default"):
        """Returns a picture's faces (uint8 BGR [h, w, 3]) as insightface's `Face` objects, with the results of all networks."""
        from insightface.app.common import Face
        boxes, points = self.det_model.detect(img, max_num=max_num, metric=det_metric)
        found = [Face(bbox=box[:4], kps=five, det_score=box[4]) for box, five in zip(boxes, points, strict=True)]
        for face in found:
            for task, model in self.models.items():
                if task != DETECTION:
                    model.get(img, face)
        return found


def size_in_pixels(size):
    """Returns (width, height) of a detector's input, which insightface takes as a pair, a list of pairs of which the last
    counts, or a number for a square."""
    size = np.asarray(size, int)
    width, height = np.broadcast_to(size.reshape(-1, 2)[-1] if size.ndim else size, 2).tolist()
    return width, height


class DetectionModel:
    """The detector with the interface of insightface's. Its size and `detect` are for other packs: our nodes use `detector`."""

    taskname = DETECTION

    def __init__(self, session):
        self.detector = Detector(session)
        self.det_thresh, self.nms_thresh = THRESHOLD, OVERLAP
        self.input_size = self.detector.fixed_size or (640, 640)

    @property
    def session(self):
        return self.detector.session

    def prepare(self, ctx_id=0, input_size=None, det_thresh=None, nms_thresh=None):
        self.det_thresh = self.det_thresh if det_thresh is None else det_thresh
        self.nms_thresh = self.nms_thresh if nms_thresh is None else nms_thresh
        if input_size is not None and not self.detector.fixed_size:
            self.input_size = size_in_pixels(input_size)

    def detect(self, img, input_size=None, max_num=0, metric="default", det_thresh=None):
        """Returns boxes with scores [k, 5] and points [k, 5, 2] of a picture, best first.

        max_num: no more than these; by metric the largest ("max"), or large ones near the middle.
        """
        size = self.detector.fixed_size or size_in_pixels(self.input_size if input_size is None else input_size)
        (boxes, points), = self.detector.detect([img], size, self.det_thresh if det_thresh is None else det_thresh,
                                                self.nms_thresh)
        if 0 < max_num < len(boxes):
            extent = boxes[:, 2:4] - boxes[:, :2]
            off_middle = (boxes[:, :2] + boxes[:, 2:4]) / 2 - [img.shape[1] // 2, img.shape[0] // 2]
            worth = extent.prod(axis=1) - (0 if metric == "max" else 2 * (off_middle ** 2).sum(axis=1))
            best = np.argsort(worth)[::-1][:max_num]
            boxes, points = boxes[best], points[best]
        return boxes, points
