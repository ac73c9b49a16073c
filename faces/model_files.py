"""The face networks as files: where antelopev2 is, and what each of its .onnx files does."""

import contextlib
import os

from ..caches import file_key
from ..files.networks import NetworkFileError, read_network

PACKAGE = "antelopev2"
DETECTION, RECOGNITION = "detection", "recognition"  # insightface's names of the two tasks that InstantID needs
DETECTION_OUTPUTS = (9, 15)


class FaceModelError(RuntimeError):
    """The face networks cannot be used; the message says what is missing, where it was looked for, and what to do."""
    __module__ = "InstantID"  # what the editor shows before the name


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
        names = network_files(folder)
        found, damaged = {}, []
        for name in names:
            path = os.path.join(folder, name)
            try:
                found.setdefault(network_task(path), path)
            except NetworkFileError:
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
    """What `find_networks` would look at, as a key: a `file_key` for each file that may be a network."""
    keys = set()
    for folder in candidate_folders(roots):
        for name in network_files(folder):
            with contextlib.suppress(OSError):  # it has gone in the meantime
                keys.add(file_key(os.path.join(folder, name)))
    return sorted(keys)


def network_files(folder):
    """The names of a folder's .onnx files, sorted. Whatever is no file passes for absent: a folder, a broken link, a pipe."""
    try:
        return sorted(name for name in os.listdir(folder)
                      if name.endswith(".onnx") and os.path.isfile(os.path.join(folder, name)))
    except OSError:
        return []


def network_task(path):
    """insightface's name for what an ONNX file does, "detection" for one; None if it is nothing of that kind.

    NetworkFileError if it cannot be read.
    """
    network = read_network(path)
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
