"""Opening the face networks: where antelopev2 is, which of its files are needed, on which hardware they run."""

import functools
import importlib
import logging
import mmap
import os

from . import caches

log = logging.getLogger(__name__)

PACKAGE = "antelopev2"
DETECTION, RECOGNITION = "detection", "recognition"  # insightface's names of the two tasks needed
DETECTION_OUTPUTS = (9, 15)
PROVIDERS = ["CPU", "CUDA", "ROCM", "CoreML"]  # order and names stand in saved workflows


class FaceModelError(RuntimeError):
    """The face networks cannot be opened; the message says what is missing, where it was looked for, and what to do."""


def candidate_folders(roots):
    """Folders in which users really have the networks, below the roots that ComfyUI knows for the kind insightface."""
    inner = (("models", PACKAGE), (PACKAGE,), ("models",), ())
    return list(dict.fromkeys(os.path.join(root, *parts, *nested)
                              for root in roots for parts in inner for nested in ((), (PACKAGE,))))


def find_networks(roots):
    """Paths of the detector and of the embedder: {"detection": path, "recognition": path}.

    Of each folder the networks are told apart by their inputs and outputs, not by name. FaceModelError if no folder
    holds both.
    """
    folders = candidate_folders(roots)
    partly = []
    for folder in folders:
        names = sorted(name for name in _list(folder) if name.endswith(".onnx"))
        found = {}
        for name in names:
            path = os.path.join(folder, name)
            found.setdefault(network_task(path), path)
        missing = [what for task, what in ((DETECTION, "the detector (scrfd_10g_bnkps.onnx)"),
                                           (RECOGNITION, "the embedder (glintr100.onnx)")) if task not in found]
        if not missing:
            return {task: found[task] for task in (DETECTION, RECOGNITION)}
        if names:
            partly.append(f"{folder} holds {', '.join(names)} but lacks {' and '.join(missing)}")
    advice = (f"Unpack InsightFace's {PACKAGE}.zip so that its .onnx files lie in {folders[0] if folders else PACKAGE}. "
              "Nothing is downloaded by itself.")
    searched = f"Searched: {', '.join(folders)}."
    if partly:
        raise FaceModelError(f"The face networks are not complete: {'; '.join(partly)}. {advice} {searched}")
    raise FaceModelError(f"The face networks of {PACKAGE} were not found. {advice} {searched}")


def _list(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def network_task(path):
    """What an ONNX file is: "detection", "recognition", or None for anything else.

    Reads the file's description of inputs and outputs only: the weights of antelopev2 are 400 MB.
    """
    from google.protobuf.message import DecodeError
    try:
        inputs, outputs = _inputs_outputs(path)
    except (OSError, ValueError, IndexError, DecodeError):  # no file that can be read as ONNX
        return None
    if len(outputs) in DETECTION_OUTPUTS:
        return DETECTION
    shape = inputs[0] if len(inputs) == 1 else ()
    if len(outputs) == 1 and len(shape) == 4 and shape[2] == shape[3] == 112:
        return RECOGNITION
    return None


def _inputs_outputs(path):
    """Shapes of an ONNX file's inputs and outputs; 0 stands for a dimension without a fixed size."""
    import onnx
    graph_field, initializer_field, input_field, output_field = 7, 5, 11, 12  # of onnx.proto
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        graphs = [(start, end) for field, start, end in _fields(data, 0, len(data)) if field == graph_field]
        weights, inputs, outputs = set(), [], []
        for field, start, end in _fields(data, *graphs[0]):
            if field == initializer_field:
                name = 8  # of TensorProto
                weights.update(data[s:e] for f, s, e in _fields(data, start, end) if f == name)
            elif field in (input_field, output_field):
                value = onnx.ValueInfoProto.FromString(data[start:end])
                (inputs if field == input_field else outputs).append(value)
    inputs = [value for value in inputs if value.name.encode() not in weights]  # old exports list weights as inputs
    return tuple([[d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
                 for values in (inputs, outputs))


def _fields(data, position, end):
    """(number, start, end) of each length-delimited field of a protobuf message; skips over the others."""
    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < end:
        tag = varint()
        kind = tag & 7
        if kind == 0:
            varint()
        elif kind == 1:
            position += 8
        elif kind == 5:
            position += 4
        elif kind == 2:
            length = varint()
            yield tag >> 3, position, position + length
            position += length
        else:
            raise ValueError("not a protobuf message")


def open_face_analysis(roots, provider):
    """FACEANALYSIS: the detector and the embedder of antelopev2 on the given provider, or on the CPU without it.

    roots: folders of ComfyUI's kind insightface. The same object as long as it is in use and its files are the same.
    """
    for package in ("onnxruntime", "insightface"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise FaceModelError(f"The Python package {package} cannot be imported ({error}). Run `python -m pip install "
                                 f"{package}` with the Python that runs ComfyUI, then restart it.") from error
    paths = find_networks(roots)
    key = (provider, *(caches.file_key(path) for path in paths.values()))
    return caches.analyses.get_or_make(key, lambda: FaceAnalysis(paths, provider, key))


@functools.cache
def available_providers(provider):
    """onnxruntime's names for a provider of the node and what it falls back to; one warning if it is not there."""
    import onnxruntime
    wanted = f"{provider}ExecutionProvider"
    if wanted in onnxruntime.get_available_providers():
        return list(dict.fromkeys((wanted, "CPUExecutionProvider")))
    package = {"CUDA": "onnxruntime-gpu", "ROCM": "onnxruntime-rocm"}.get(provider, "onnxruntime")
    log.warning("InstantID: the provider %s is not available in the installed onnxruntime, which offers %s; faces are "
                "analysed on the CPU. For %s, uninstall onnxruntime and install %s.", provider,
                ", ".join(onnxruntime.get_available_providers()), provider, package)
    return ["CPUExecutionProvider"]


class FaceAnalysis:
    """A FACEANALYSIS as insightface's `FaceAnalysis` behaves for other packs, with the two networks that are needed.

    det_model, models: insightface's own objects around the networks. key: the identity of the files, for caches.
    """

    def __init__(self, paths, provider, key):
        import onnxruntime
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX
        from insightface.model_zoo.scrfd import SCRFD
        self.key = key
        providers = available_providers(provider)
        sessions = {task: onnxruntime.InferenceSession(path, providers=providers) for task, path in paths.items()}
        # without its path, insightface 2.1 keeps to the one session instead of opening another for each input size
        self.det_model = SCRFD(session=sessions[DETECTION])
        self.models = {DETECTION: self.det_model,
                       RECOGNITION: ArcFaceONNX(model_file=paths[RECOGNITION], session=sessions[RECOGNITION])}
        self.prepare(ctx_id=0)

    def prepare(self, ctx_id, det_thresh=0.5, det_size=(640, 640)):
        for task, model in self.models.items():
            if task == DETECTION:
                model.prepare(ctx_id, input_size=det_size, det_thresh=det_thresh)
            else:
                model.prepare(ctx_id)

    def get(self, img, max_num=0, det_metric="default"):
        """Faces of a BGR picture, as insightface's `FaceAnalysis.get` returns them: bbox, kps, det_score, embedding.

        The size is det_model.input_size, which other packs set to look again at smaller sizes; insightface 1.0 and later
        would ignore it.
        """
        from insightface.app.common import Face
        boxes, points = self.det_model.detect(img, input_size=tuple(self.det_model.input_size), max_num=max_num,
                                              metric=det_metric)
        found = [Face(bbox=box[:4], kps=five, det_score=box[4]) for box, five in zip(boxes, points, strict=True)]
        for face in found:
            self.models[RECOGNITION].get(img, face)
        return found
