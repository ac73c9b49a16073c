"""ONNX files: read in bounded time, whatever is in them."""

import os
import time

import onnx
import pytest
from instantid_swift.files import networks
from instantid_swift.files.networks import NetworkFileError, read_network


def file(tmp_path, content):
    (tmp_path / "network.onnx").write_bytes(content)
    return tmp_path / "network.onnx"


def test_what_a_network_says_of_itself(face_files):
    found = read_network(face_files / "w600k_mbf.onnx")
    model = onnx.load(face_files / "w600k_mbf.onnx")
    assert found.inputs[0][1:] == [3, 112, 112] and found.outputs[0][-1] == 512
    assert found.nodes == [node.name for node in model.graph.node[:networks.FIRST_NODES]]


@pytest.mark.parametrize("content", [b"\xff" * 1_000_000, bytes(50_000_000), b"\x08" + b"\x80" * 100,
                                     b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", b"", b"\x08\x01" * 1_000_000, b"\x3a\x02\x62\x05"],
                         ids=["0xFF", "zeros", "varint", "length", "group", "empty", "a million fields", "input cut off"])
def test_no_network_ends_the_reading_at_once(tmp_path, content):
    """1 MB of 0xFF took 26 seconds, 260 MB of zeros 35. Counted are the fields that are looked at."""
    path, start = file(tmp_path, content), time.process_time()
    with pytest.raises(NetworkFileError):
        read_network(path)
    assert time.process_time() - start < 5  # it is 0.3 s at most; a bound of the slowest machine, not a measurement


def test_a_number_has_ten_bytes_at_most(tmp_path):
    """The rest of the file is not read."""
    with open(file(tmp_path, b"\xff" * 100), "rb") as opened:
        with pytest.raises(NetworkFileError):
            list(networks._Message(opened).fields())


def test_a_name_of_a_hundred_megabytes(tmp_path):
    model = onnx.helper.make_model(onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["b"], name="n" * 200_000)],
                                                          "graph", [], []))
    with pytest.raises(NetworkFileError, match="has a name or description of 200,000 bytes"):
        read_network(file(tmp_path, model.SerializeToString()))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "pipe.onnx", tmp_path / "link.onnx"):
        with pytest.raises(NetworkFileError, match="is not a file"):
            read_network(path)
