"""Face networks that onnxruntime cannot open, or that are of another kind: refused in a sentence where they are opened."""

import os

import numpy as np
import onnx
import pytest
from instantid_swift.faces import analysis, model_files
from instantid_swift.faces.analysis import RecognitionModel, _open_network
from instantid_swift.faces.detector import Detector
from instantid_swift.faces.model_files import FaceModelError
from instantid_swift.faces.providers import open_session
from messages import one_sentence_of_advice


def network(outputs, inputs=(1, 3, 112, 112)):
    """A network whose outputs are zeros of the given shapes."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("ConstantOfShape", [f"shape{number}"], [f"out{number}"]) for number in range(len(outputs))]
    shapes = [helper.make_tensor(f"shape{number}", onnx.TensorProto.INT64, [len(shape)], shape)
              for number, shape in enumerate(outputs)]
    graph = helper.make_graph(nodes, "network", [helper.make_tensor_value_info("picture", kind, inputs)],
                              [helper.make_tensor_value_info(f"out{number}", kind, shape)
                               for number, shape in enumerate(outputs)], shapes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def package(tmp_path, face_root, **replaced):
    folder = tmp_path / "models" / "antelopev2"
    folder.mkdir(parents=True)
    for name in ("scrfd_500m_bnkps.onnx", "w600k_mbf.onnx"):
        content = replaced.get(name.split("_")[0]) or (face_root / "models" / "antelopev2" / name).read_bytes()
        (folder / name).write_bytes(content)
    return str(tmp_path)


def test_an_embedder_of_another_width_is_refused_where_it_is_opened(tmp_path, face_root):
    root = package(tmp_path, face_root, w600k=network([(1, 256)]).SerializeToString())
    with pytest.raises(FaceModelError, match="w600k_mbf.onnx gives 256 numbers for a face, where InstantID needs 512") as error:
        analysis.open_face_analysis([root], "CPU")
    one_sentence_of_advice(error)


def test_an_embedder_whose_file_does_not_say_its_width(tmp_path):
    model = network([(1, 256)])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "width"
    onnx.save(model, tmp_path / "embedder.onnx")
    with pytest.raises(FaceModelError, match="gives 256 numbers"):
        RecognitionModel(str(tmp_path / "embedder.onnx"), open_session(str(tmp_path / "embedder.onnx"), "CPU"))


def unknown_operation(model):
    model.graph.node[0].op_type = "Nothing"


def wrong_type(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING


def missing_weights(model):
    del model.graph.initializer[:]


def no_operations(model):
    del model.graph.node[:]


@pytest.mark.parametrize("edit", [unknown_operation, wrong_type, missing_weights, no_operations])
def test_what_onnxruntime_cannot_open_is_our_sentence(tmp_path, face_files, edit):
    """InvalidGraph, Fail, InvalidProtobuf: the classes of onnxruntime have nothing in common."""
    model = onnx.load(face_files / "det_500m.onnx")
    edit(model)
    path = tmp_path / "detector.onnx"
    onnx.save(model, path)
    with pytest.raises(FaceModelError, match="The face network detector.onnx cannot be opened") as error:
        _open_network(str(path), "CPU")
    one_sentence_of_advice(error)


@pytest.mark.parametrize("outputs, inputs, found", [
    ([(4,)] * 9, (1, 3, 640, 640), "outputs are"), ([(1, 4, 1, 1)] * 9, (1, 3, 640, 640), "outputs are"),
    ([(4, 1)] * 8 + [(1, 4, 1)], (1, 3, 640, 640), "outputs are"), ([(4, 7)] * 9, (1, 3, 640, 640), "outputs are"),
    ([(4, 1)] * 3 + [(4, 4)] * 3 + [(4, 10)] * 3, (3, 640, 640), "takes"),
    ([(4, 1)] * 3 + [(4, 4)] * 3 + [(4, 10)] * 3, (1, 4, 640, 640), "takes"),
], ids=["one dimension", "four dimensions", "mixed", "widths", "input of three dimensions", "four channels"])
def test_a_detector_of_other_ranks_is_refused_where_it_is_opened(outputs, inputs, found):
    session = open_session(network(outputs, inputs).SerializeToString(), "CPU")
    with pytest.raises(FaceModelError, match=f"The face detector.*{found}.*scrfd_10g_bnkps.onnx"):
        Detector(session)


def test_a_detector_that_gives_other_arrays_than_it_should():
    outputs = [(4, 1)] * 3 + [(4, 4)] * 3 + [(4, 10)] * 3
    detector = Detector(open_session(network(outputs, ("n", 3, 640, 640)).SerializeToString(), "CPU"))
    detector.free_batch = False
    with pytest.raises(FaceModelError, match="gives arrays"):
        list(detector.detect([np.zeros((50, 50, 3), np.uint8)], (640, 640)))


def test_what_is_named_like_a_network_but_is_no_file_is_passed_over(tmp_path, face_root):
    """A broken link ended IS_CHANGED in an error, a pipe waited for ever."""
    root = package(tmp_path, face_root)
    folder = tmp_path / "models" / "antelopev2"
    wanted, state = model_files.find_networks([root]), model_files.state_of_networks([root])
    (folder / "a.onnx").symlink_to(folder / "nowhere")
    (folder / "b.onnx").mkdir()
    os.mkfifo(folder / "c.onnx")
    assert model_files.find_networks([root]) == wanted and model_files.state_of_networks([root]) == state
