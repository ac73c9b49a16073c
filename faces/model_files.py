"""The face networks as files: where antelopev2 is, and what each of its .onnx files does."""

import glob
import logging
import os

from ..caches import file_key
from ..utils import InstantIDError, what_is_wrong

log = logging.getLogger(__name__)

PACKAGE = "antelopev2"
SOURCE = f"The five .onnx files of {PACKAGE} are at https://huggingface.co/DIAMONIK7777/{PACKAGE}."
DETECTION, RECOGNITION = "detection", "recognition"  # insightface's names of the two tasks that InstantID needs
TASKS = {"scrfd_10g_bnkps.onnx": DETECTION, "glintr100.onnx": RECOGNITION, "1k3d68.onnx": "landmark_3d_68",
         "2d106det.onnx": "landmark_2d_106", "genderage.onnx": "genderage"}  # of antelopev2's files


def candidate_folders(roots):
    """Returns the folders in which users keep the networks, below the roots that ComfyUI knows for the kind insightface."""
    inner = (("models", PACKAGE), (PACKAGE,), ("models",), ())
    return list(dict.fromkeys(os.path.join(root, *parts, *nested)
                              for root in roots for parts in inner for nested in ((), (PACKAGE,))))


def find_networks(roots):
    """Returns paths of a folder's networks by task: {"detection": path, "recognition": path, ...}.

    The first two are there always, antelopev2's others where the folder has them. InstantIDError if no folder holds both
    detector and embedder.
    """
    folders = candidate_folders(roots)
    incomplete = []
    for folder in folders:
        paths = network_files(folder)
        found, damaged = _tasks_of(paths)
        missing = [what for task, what in ((DETECTION, "the detector (scrfd_10g_bnkps.onnx)"),
                                           (RECOGNITION, "the embedder (glintr100.onnx)")) if task not in found]
        if not missing:
            return found
        if paths:
            names = ", ".join(map(os.path.basename, paths))
            incomplete.append(f"{folder} holds {names} but lacks {' and '.join(missing)}." + "".join(
                f" {os.path.basename(path)} cannot be opened. {what_is_wrong(path)}" for path in damaged))
    log.info("Searched for face networks: %s", ", ".join(folders))
    found = f"are not complete: {' '.join(incomplete)}" if incomplete else "were not found."
    raise InstantIDError(f"The face networks of {PACKAGE} {found} {SOURCE} Put them into {folders[0] if folders else PACKAGE}.")


def _tasks_of(paths):
    """Returns ({task: path}, paths of files that cannot be opened).

    Files of antelopev2's names are not opened. Others are, as long as detector or embedder is missing.
    """
    found = {TASKS[name]: path for path in paths if (name := os.path.basename(path)) in TASKS}
    damaged = []
    for path in paths:
        if os.path.basename(path) not in TASKS and not {DETECTION, RECOGNITION} <= found.keys():
            try:
                found.setdefault(network_task(path), path)
            except Exception:  # onnxruntime's errors have no common class
                damaged.append(path)
    found.pop(None, None)
    return found, damaged


def network_task(path):
    """Returns "detection" or "recognition", by an ONNX file's inputs and outputs; None for other networks."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is not run
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(outputs) in (9, 15):
        return DETECTION
    return RECOGNITION if len(inputs) == len(outputs) == 1 and inputs[0].shape[2:] == [112, 112] else None


def state_of_networks(roots):
    """Returns a `file_key` for each file that `find_networks` would look at, sorted."""
    return sorted({file_key(path) for folder in candidate_folders(roots) for path in network_files(folder)})


def network_files(folder):
    """Returns the paths of a folder's .onnx files, sorted. Folders and broken links are skipped."""
    return sorted(filter(os.path.isfile, glob.glob(os.path.join(glob.escape(folder), "*.onnx"))))
