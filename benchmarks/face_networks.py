"""Folders of face networks for the benchmark: the small trained ones of the registries, and stand-ins for what these lack.

A stand-in has random weights, the input and output of the network it stands for, about its size, and takes about its time.
antelopev2 itself is not on the registries.
"""

import os
import shutil

import numpy as np

from benchmarks import CHECKOUT

FILES = CHECKOUT / ".dev" / "face_models"
TRAINED = ("scrfd_500m_bnkps.onnx", "w600k_mbf.onnx", "2d106det.onnx")
# side of the input, number of outputs, (width, convolutions) of each stage, of which each halves the side
POSE_LANDMARKS = (192, 3309, ((64, 1), (128, 2), (256, 2), (512, 3), (1024, 3)))        # 1k3d68.onnx, 144 MB
GENDER_AND_AGE = (96, 3, ((16, 1), (32, 1), (64, 1), (128, 3)))                         # genderage.onnx, 1.3 MB
EMBEDDER = (112, 512, ((64, 4), (128, 13), (256, 30), (512, 18)))                       # glintr100.onnx, 261 MB


def make_folders(folder):
    """{name: folder with models/antelopev2} of three sets of networks, made below `folder`."""
    _package(folder / "three", TRAINED)
    five = make_five(folder / "five")
    full = _package(folder / "full", (TRAINED[0], TRAINED[2]))
    for name in ("1k3d68.onnx", "genderage.onnx"):
        os.link(five / name, full / name)
    stand_in(full / "glintr100.onnx", *EMBEDDER)
    return {"3 networks": folder / "three", "5 networks": folder / "five", "5 networks, large embedder": folder / "full"}


def make_five(root):
    """As many networks as antelopev2 has, below root: the trained ones and two stand-ins. Returns the folder they are in."""
    package = _package(root, TRAINED)
    stand_in(package / "1k3d68.onnx", *POSE_LANDMARKS)
    stand_in(package / "genderage.onnx", *GENDER_AND_AGE)
    return package


def _package(root, names):
    if not FILES.is_dir():
        raise SystemExit("There are no trained face networks: run `python dev/environment.py`.")
    package = root / "models" / "antelopev2"
    package.mkdir(parents=True)
    for name in names:
        shutil.copy(FILES / name, package)
    return package


def stand_in(path, side, outputs, stages):
    """Writes a network [n, 3, side, side] -> [n, outputs]: convolutions of 3x3, an average, a linear layer."""
    from onnx import TensorProto, helper, numpy_helper, save
    random = np.random.default_rng(0)
    nodes, weights, value, width = [], [], "picture", 3

    def weight(*shape):
        weights.append(numpy_helper.from_array((random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5)
                                               .astype(np.float32), f"weight{len(weights)}"))
        return weights[-1].name
    for wider, convolutions in stages:
        for number in range(convolutions):
            stride = 2 if number == 0 else 1
            nodes += [helper.make_node("Conv", [value, weight(wider, width, 3, 3)], [f"conv{len(nodes)}"],
                                       strides=[stride, stride], pads=[1, 1, 1, 1])]
            nodes += [helper.make_node("Relu", [nodes[-1].output[0]], [f"relu{len(nodes)}"])]
            value, width = nodes[-1].output[0], wider
    nodes += [helper.make_node("GlobalAveragePool", [value], ["average"]), helper.make_node("Flatten", ["average"], ["flat"]),
              helper.make_node("Gemm", ["flat", weight(outputs, width)], ["result"], transB=1)]
    graph = helper.make_graph(nodes, "stand_in",
                              [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, side, side])],
                              [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", outputs])], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def megabytes(root):
    """{file: its size in MB} of a folder of networks."""
    return {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted((root / "models" / "antelopev2").glob("*.onnx"))}
