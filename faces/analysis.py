"""FACEANALYSIS: the opened face networks, as other packs know them from insightface's `FaceAnalysis`.

The detector and the embedder are opened at once. The folder's other networks (landmarks, gender and age) are opened when
another pack asks for what they compute.
"""

import functools
import os
import threading
from collections.abc import MutableMapping

import numpy as np

from .. import caches
from ..files.networks import read_network, with_free_batch
from ..resampler import EMBEDDING_WIDTH
from .detector import OVERLAP, THRESHOLD, Detector
from .model_files import DETECTION, PACKAGE, RECOGNITION, FaceModelError, find_networks
from .providers import import_packages, open_session

# what the networks of a task write into a face, where it is not the task's name
GIVES = {RECOGNITION: ("embedding",), "genderage": ("gender", "age"), "landmark_3d_68": ("landmark_3d_68", "pose")}


def open_face_analysis(roots, provider):
    """FACEANALYSIS: the networks of antelopev2 on the given provider, or on the CPU without it.

    roots: folders of ComfyUI's kind insightface. The same object as long as it is in use and its files are the same.
    FaceModelError if something is missing.
    """
    import_packages()
    paths = find_networks(roots)
    key = (provider, *map(caches.file_key, paths.values()))
    return caches.analyses.get_or_make(key, lambda: FaceAnalysis(paths, provider, key))


class FaceAnalysis:
    """Has what other packs use of insightface's class of this name: get, det_model, models, prepare.

    key: the identity of files and settings, for caches. bytes: of the networks' files, as a measure of what they take once
    opened.
    """

    def __init__(self, paths, provider, key):
        """paths: {task: ONNX file}, as `find_networks` gives it. provider: one of PROVIDERS."""
        self.key = key
        self.bytes = sum(map(os.path.getsize, paths.values()))
        self.det_model = DetectionModel(_open_detector(paths[DETECTION], provider))
        opened = {DETECTION: self.det_model,
                  RECOGNITION: RecognitionModel(paths[RECOGNITION], _open_network(paths[RECOGNITION], provider))}
        self.models = Networks(opened, {task: path for task, path in paths.items() if task not in opened}, provider)

    def prepare(self, ctx_id=0, det_thresh=THRESHOLD, det_size=(640, 640)):
        """ctx_id is ignored: the node has chosen the hardware."""
        self.det_model.prepare(ctx_id, input_size=det_size, det_thresh=det_thresh)

    def get(self, img, max_num=0, det_metric="default"):
        """Returns a picture's faces (uint8 BGR [h, w, 3]) as insightface's `Face` objects: bbox, kps, det_score, embedding.

        A network other than the detector runs when something that it computes is first read.
        """
        boxes, points = self.det_model.detect(img, max_num=max_num, metric=det_metric)
        picture = img.copy() if len(boxes) else img  # its owner may draw on it before the embedding is read

        def analyse(face, task):
            self.models[task].get(picture, face)
        later = {name: task for task in self.models if task != DETECTION for name in GIVES.get(task, (task,))}
        found = []
        for box, five in zip(boxes, points, strict=True):
            face = _face_class()(bbox=box[:4], kps=five, det_score=box[4])
            face.compute_later(dict(later), analyse)
            found.append(face)
        return found


def _open_network(path, provider):
    """A session of a network's file. FaceModelError where onnxruntime cannot open it."""
    try:
        return open_session(path, provider)
    except Exception as error:  # onnxruntime's errors have no common class
        raise FaceModelError(f"The face network {os.path.basename(path)} cannot be opened ({type(error).__name__}: "
                             f"{str(error)[:200]}). It is damaged or of another kind: unpack InsightFace's {PACKAGE}.zip "
                             "again.") from error


def _open_detector(path, provider):
    """Returns a session that takes batches where the network can, even if its file says that it takes one picture at a time.

    It replaces the file's own session. It computes the same for one picture, and two sessions would hold the weights twice.
    """
    if any(network_input[:1] != [0] for network_input in read_network(path).inputs):
        try:
            return open_session(with_free_batch(path), provider)
        except Exception:  # onnxruntime's errors have no common class; the file as it is says what is wrong, if it is wrong
            pass
    return _open_network(path, provider)


def size_in_pixels(size):
    """(width, height) of a detector's input, as insightface takes it: a pair, a list of pairs of which the last counts, or a
    number for a square."""
    size = np.asarray(size, int)
    width, height = np.broadcast_to(size.reshape(-1, 2)[-1] if size.ndim else size, 2).tolist()
    return width, height


class DetectionModel:
    """The detector as insightface's: `detect` with the size that others may set, which our own nodes never look at."""

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
        """Boxes with scores [k, 5] and points [k, 5, 2] of a picture, best first.

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


class RecognitionModel:
    """The embedder, with the interface of insightface's ArcFaceONNX.

    insightface reads the whole file once more to find mean and deviation of the input; the names of the first nodes tell them.
    FaceModelError if the network's embeddings are not 512 wide.
    """

    taskname = RECOGNITION

    def __init__(self, path, session):
        self.model_file, self.session = path, session
        first = read_network(path).nodes
        normalises = all(any(node.startswith(names) for node in first) for names in (("Sub", "_minus"), ("Mul", "_mul")))
        self.input_mean, self.input_std = (0.0, 1.0) if normalises else (127.5, 127.5)
        network_input = session.get_inputs()[0]
        self.input_name, self.input_shape = network_input.name, network_input.shape
        self.input_size = tuple(network_input.shape[2:4][::-1])
        self.output_names = [output.name for output in session.get_outputs()]
        width = (None, *session.get_outputs()[0].shape)[-1]
        if not isinstance(width, int):  # the file does not say
            width = self.get_feat(np.zeros((*self.input_size[::-1], 3), np.uint8)).shape[-1]
        if width != EMBEDDING_WIDTH:
            raise FaceModelError(f"The embedder {os.path.basename(path)} gives {width} numbers for a face, where InstantID "
                                 f"needs {EMBEDDING_WIDTH}. Use antelopev2's glintr100.onnx.")

    def prepare(self, ctx_id=0, **kwargs):
        pass

    def get(self, img, face):
        from insightface.utils import face_align
        face.embedding = self.get_feat(face_align.norm_crop(img, face.kps, self.input_size[0])).flatten()
        return face.embedding

    def get_feat(self, imgs):
        """Embeddings float32 [n, 512] of aligned crops, uint8 BGR [112, 112, 3], one or a list of n."""
        import cv2
        blob = cv2.dnn.blobFromImages(imgs if isinstance(imgs, list) else [imgs], 1.0 / self.input_std, self.input_size,
                                      (self.input_mean,) * 3, swapRB=True)
        try:
            return self.session.run(self.output_names, {self.input_name: blob})[0]
        except Exception as error:  # onnxruntime's errors have no common class
            raise FaceModelError(f"The embedder {os.path.basename(self.model_file)} fails ({type(error).__name__}: "
                                 f"{str(error)[:200]}). Use antelopev2's glintr100.onnx.") from error


class Networks(MutableMapping):
    """{task: model} of a folder. A network that is not open yet is opened when it is read."""

    def __init__(self, opened, closed, provider):
        """opened: {task: model}. closed: {task: ONNX file}."""
        self._opened, self._closed, self._provider = opened, closed, provider
        self._lock = threading.Lock()

    def __getitem__(self, task):
        with self._lock:
            if task in self._closed:
                self._opened[task] = self._open(task, self._closed[task])
                del self._closed[task]
            return self._opened[task]

    def _open(self, task, path):
        from insightface.model_zoo import attribute, landmark
        kind = attribute.Attribute if task == "genderage" else landmark.Landmark
        return kind(model_file=path, session=_open_network(path, self._provider))

    def __setitem__(self, task, model):
        self._closed.pop(task, None)
        self._opened[task] = model

    def __delitem__(self, task):
        if self._closed.pop(task, None) is None:
            del self._opened[task]

    def __iter__(self):
        return iter([*self._opened, *self._closed])

    def __len__(self):
        return len(self._opened) + len(self._closed)

    def __contains__(self, task):
        return task in self._opened or task in self._closed


@functools.cache
def _face_class():
    """Makes a subclass of insightface's `Face` that runs a network when a value that it computes is first read.

    insightface is imported here, as the pack's start shall not wait for it.
    """
    from insightface.app.common import Face

    class LazyFace(Face):
        _later = {}  # name: task of the network that gives it

        def compute_later(self, later, analyse):
            """later: {name: task}. analyse(face, task) runs the task's network, which writes into the face."""
            object.__setattr__(self, "_later", later)  # not as an item, which Face would make of it
            object.__setattr__(self, "_analyse", analyse)

        def _compute(self, *names):
            for task in {self._later[name]: None for name in names}:
                self._analyse(self, task)
                for name in [name for name in self._later if self._later[name] == task]:
                    del self._later[name]

        def __getattr__(self, name):
            return self[name] if name in self._later else super().__getattr__(name)

        def __missing__(self, name):
            if name not in self._later:
                raise KeyError(name)
            self._compute(name)
            return self[name]

        def __contains__(self, name):
            return name in self._later or super().__contains__(name)

        def get(self, name, default=None):
            return self[name] if name in self else default

        def __iter__(self):
            self._compute(*self._later)
            return super().__iter__()

        def keys(self):
            return dict.fromkeys(self).keys()

        def values(self):
            return {name: self[name] for name in self}.values()

        def items(self):
            return {name: self[name] for name in self}.items()

        def __len__(self):
            self._compute(*self._later)
            return super().__len__()

        def copy(self):
            return Face(self)

        def __reduce__(self):  # copies and pickles take along what is known, not the networks
            return Face, (dict(dict.items(self)),)

    return LazyFace
