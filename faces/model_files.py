"""The face networks as files: where antelopev2 is, and what each of its .onnx files does."""

import mmap
import os
from typing import NamedTuple

from ..caches import file_key

PACKAGE = "antelopev2"
DETECTION, RECOGNITION = "detection", "recognition"  # insightface's names of the two tasks that InstantID needs
DETECTION_OUTPUTS = (9, 15)


class FaceModelError(RuntimeError):
    """The face networks cannot be used; the message says what is missing, where it was looked for, and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


class Network(NamedTuple):
    """What an ONNX file says of itself before its weights. 0 stands for a dimension without a fixed size."""
    inputs: list   # shapes
    outputs: list  # shapes
    nodes: list    # names of the first few operations


def candidate_folders(roots):
    """Folders in which users really have the networks, below the roots that ComfyUI knows for the kind insightface."""
    inner = (("models", PACKAGE), (PACKAGE,), ("models",), ())
    return list(dict.fromkeys(os.path.join(root, *parts, *nested)
                              for root in roots for parts in inner for nested in ((), (PACKAGE,))))


def find_networks(roots):
    """Paths of a folder's networks by what they do: {"detection": path, "recognition": path, ...}.

    The first two are there always; others ("landmark_2d_106", "genderage") where the folder has them. Networks are told
    apart by their inputs and outputs, not by name. FaceModelError if no folder holds both detector and embedder.
    """
    folders = candidate_folders(roots)
    partly = []
    for folder in folders:
        names = sorted(name for name in _list(folder) if name.endswith(".onnx"))
        found, damaged = {}, []
        for name in names:
            path = os.path.join(folder, name)
            try:
                found.setdefault(network_task(path), path)
            except ValueError:
                damaged.append(name)
        found.pop(None, None)
        missing = [what for task, what in ((DETECTION, "the detector (scrfd_10g_bnkps.onnx)"),
                                           (RECOGNITION, "the embedder (glintr100.onnx)")) if task not in found]
        if not missing:
            return found
        if names:
            partly.append(f"{folder} holds {', '.join(names)} but lacks {' and '.join(missing)}" +
                          (f" ({', '.join(damaged)}: damaged or not downloaded completely)" if damaged else ""))
    advice = (f"Unpack InsightFace's {PACKAGE}.zip so that its .onnx files lie in {folders[0] if folders else PACKAGE}. "
              "Nothing is downloaded by itself.")
    searched = f"Searched: {', '.join(folders)}."
    if partly:
        raise FaceModelError(f"The face networks are not complete: {'; '.join(partly)}. {advice} {searched}")
    raise FaceModelError(f"The face networks of {PACKAGE} were not found. {advice} {searched}")


def state_of_networks(roots):
    """What `find_networks` would look at, as a key: path, size and time of each file that may be a network."""
    return sorted({file_key(os.path.join(folder, name)) for folder in candidate_folders(roots) for name in _list(folder)
                   if name.endswith(".onnx")})


def _list(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def network_task(path):
    """insightface's name for what an ONNX file does, "detection" for one; None if it is nothing of that kind.

    ValueError if it cannot be read.
    """
    from google.protobuf.message import DecodeError
    try:
        network = read_network(path)
    except (OSError, IndexError, DecodeError) as error:
        raise ValueError(f"{path} is no ONNX file.") from error
    if len(network.outputs) in DETECTION_OUTPUTS:
        return DETECTION
    if len(network.inputs) != 1 or len(network.outputs) != 1 or len(network.inputs[0]) != 4:
        return None
    values = network.outputs[0][-1] if network.outputs[0] else 0
    match tuple(network.inputs[0][2:]):
        case (112, 112):
            return RECOGNITION
        case (192, 192):
            return "landmark_3d_68" if values == 3309 else f"landmark_2d_{values // 2}"
        case (96, 96):
            return "genderage" if values == 3 else None
    return None


def read_network(path):
    """The `Network` of an ONNX file. The weights, 400 MB in antelopev2, are passed over.

    ValueError, IndexError, google.protobuf's DecodeError or OSError if it is no whole ONNX file.
    """
    import onnx
    graph_field, node_field, initializer_field, input_field, output_field = 7, 1, 5, 11, 12  # of onnx.proto
    node_name, initializer_name = 3, 8
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        graphs = [(start, end) for field, start, end in _fields(data, 0, len(data)) if field == graph_field]
        weights, inputs, outputs, nodes = set(), [], [], []
        for field, start, end in _fields(data, *graphs[0]):
            if field == initializer_field:
                weights.update(data[s:e] for f, s, e in _fields(data, start, end) if f == initializer_name)
            elif field == node_field and len(nodes) < 8:
                name = [data[s:e].decode() for f, s, e in _fields(data, start, end) if f == node_name]
                nodes.append(name[0] if name else "")
            elif field in (input_field, output_field):
                value = onnx.ValueInfoProto.FromString(data[start:end])
                (inputs if field == input_field else outputs).append(value)
    inputs = [value for value in inputs if value.name.encode() not in weights]  # old exports list weights as inputs
    return Network(*([[d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
                     for values in (inputs, outputs)), nodes)


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


def with_free_batch(path):
    """An ONNX file whose input is fixed to one picture, changed to take any number of them: bytes.

    The operations and weights are the file's. Whether they really work on several pictures is to be checked by a run.
    """
    import onnx
    model = onnx.load(path)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_param = "batch"
    for output in model.graph.output:  # their number of rows was that of one picture
        for number, dimension in enumerate(output.type.tensor_type.shape.dim[:-1]):
            dimension.Clear()
            dimension.dim_param = f"{output.name}_{number}"
    del model.graph.value_info[:]
    return model.SerializeToString()
