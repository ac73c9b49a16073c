"""Tensors from files: read as they are, or refused in a sentence; never mapped, never more than the file has."""

import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from instantid_swift.files.checkpoint import TensorFileError, read_tensors

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b.half": torch.rand(5).half(), "b.bf": torch.rand(2, 2, 2).bfloat16(),
           "b.double": torch.rand(4, dtype=torch.float64),
           "b.none": torch.zeros(0, 3)}


def write(path, form, tensors=None):
    tensors = TENSORS if tensors is None else tensors
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "pickle")
    return path


def everything(shapes):
    return list(shapes)


FORMS = ["safetensors", "pickle", "old pickle"]


@pytest.mark.parametrize("form", FORMS)
def test_tensors_are_read_as_they_are(tmp_path, form):
    eight_bits = {} if form == "old pickle" else {"b.eight": torch.rand(3).to(torch.float8_e4m3fn)}
    found = read_tensors(write(tmp_path / "file", form, TENSORS | eight_bits), everything)
    assert found.keys() == (TENSORS | eight_bits).keys()
    for name, tensor in (TENSORS | eight_bits).items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].double(), tensor.double())


@pytest.mark.parametrize("form", FORMS)
def test_only_the_chosen_ones_are_returned(tmp_path, form):
    shapes = {}
    path = write(tmp_path / "file", form, {**TENSORS, "c": torch.tensor([float("nan")])})
    assert list(read_tensors(path, lambda found: shapes.update(found) or ["b.half"])) == ["b.half"]
    assert shapes["a.weight"] == (2, 3) and shapes["b.none"] == (0, 3)

    def refuse(shapes):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        read_tensors(path, refuse)


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_or_overwritten_file_changes_nothing_that_was_read(tmp_path, form):
    """Mapped, its pages changed under the weights; truncated, the process died with SIGBUS."""
    path = write(tmp_path / "file", form, {"weight": torch.ones(100_000)})
    found = read_tensors(path, everything)
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert found["weight"].min() == 1
    os.truncate(path, 0)
    assert found["weight"].sum() == 100_000


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("value, found", [
    (torch.tensor([1.0, float("nan")]), "not finite"), (torch.tensor([[float("inf"), float("-inf")]]), "not finite"),
    (torch.tensor([torch.finfo(torch.float16).max] * 2 + [float("inf")]).half(), "not finite"),
    (torch.ones(2, dtype=torch.complex64), "in place of floating-point numbers"),
    (torch.ones(2, dtype=torch.int8), "in place of floating-point numbers"), (torch.tensor(1.0), "single number"),
], ids=["nan", "infinite", "infinite in 16 bits", "complex", "integer", "0-d"])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, form, value, found):
    with pytest.raises(TensorFileError, match=f"Its tensor 'weight' .*{found}"):
        read_tensors(write(tmp_path / "file", form, {"weight": value}), everything)


def test_weights_whose_sum_is_too_large_are_finite(tmp_path):
    largest = torch.full((4,), torch.finfo(torch.float32).max)
    assert torch.equal(read_tensors(write(tmp_path / "file", "pickle", {"weight": largest}), everything)["weight"], largest)


@pytest.mark.parametrize("value", [3, "text", [torch.ones(1)], None], ids=str)
def test_an_object_that_is_no_tensor_is_refused(tmp_path, value):
    with pytest.raises(TensorFileError, match="Its entry 'weight' is no tensor but a "):
        read_tensors(write(tmp_path / "file", "pickle", {"weight": value}), everything)


def test_other_things_than_arrays_are_refused(tmp_path):
    for value in (torch.ones(2, 2).to_sparse(), torch.ones(2, device="meta")):
        with pytest.raises(TensorFileError, match="holds no array of numbers"):
            read_tensors(write(tmp_path / "file", "pickle", {"weight": value}), everything)


def test_keys_that_are_no_texts(tmp_path):
    path = write(tmp_path / "file", "pickle", {3: torch.ones(1), "a": {7: torch.ones(1)}})
    assert list(read_tensors(path, everything)) == ["a.7"]


def test_a_list_is_no_dictionary(tmp_path):
    with pytest.raises(TensorFileError, match="no tensors by name"):
        read_tensors(write(tmp_path / "file", "pickle", [torch.ones(1)]), everything)


def rewritten(path, target, compression=zipfile.ZIP_STORED, **changed):
    """A copy of torch's zip file with changed records, by the ends of their names."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", compression) as copy:
        for record in source.infolist():
            content = source.read(record)
            for end, change in changed.items():
                content = change(content) if record.filename.endswith(end) else content
            copy.writestr(record.filename, content)
    return target


def test_a_pickle_that_unpacks_to_much_more_than_its_file(tmp_path):
    path = write(tmp_path / "whole", "pickle", {"weight": torch.zeros(25_000_000)})
    bomb = rewritten(path, tmp_path / "bomb", zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(TensorFileError, match="It would unpack to 100,000,"):
        read_tensors(bomb, everything)


def test_a_pickle_that_asks_for_memory(tmp_path):
    """`bytearray` of any length is among what torch lets a pickle call."""
    asking = {"weight": torch.ones(1), "more": bytearray(10)}
    path = write(tmp_path / "file", "pickle", asking)
    assert b"bytearray" in path.read_bytes()
    with pytest.raises(TensorFileError, match="list of tensors is not one that torch.save writes"):
        read_tensors(path, everything)


def test_a_pickle_that_claims_more_numbers_than_it_has(tmp_path):
    path = write(tmp_path / "whole", "pickle", {"weight": torch.ones(4)})
    with pytest.raises(TensorFileError):
        read_tensors(rewritten(path, tmp_path / "lie", **{
            "data.pkl": lambda content: content.replace(b"K\x04tq", b"K\xfatq")}), everything)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return print, ("code was run",)
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"weight": Harm()}, protocol=2))
    with pytest.raises(TensorFileError, match="damaged"):
        read_tensors(path, everything)


def header(path, text, data=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("text", [
    b"{" * 100_000, b"{}}", b'{"a": 3}', {"a": {}}, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1]}},
    {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [1, 0]}},
    {"a": {"dtype": "F32", "shape": [10 ** 12], "data_offsets": [0, 4 * 10 ** 12]}},
    {"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 1]}}, {"a": {"dtype": [], "shape": [1], "data_offsets": [0, 1]}},
    {"a": {"dtype": "F32", "shape": [0.25], "data_offsets": [0, 1]}}], ids=lambda text: str(text)[:40])
def test_a_safetensors_file_with_a_wrong_header(tmp_path, text):
    with pytest.raises(TensorFileError):
        read_tensors(header(tmp_path / "file", text, b"x"), everything)


def test_a_header_that_claims_gigabytes(tmp_path):
    (tmp_path / "file").write_bytes((1 << 62).to_bytes(8, "little") + b"{" + bytes(100))
    with pytest.raises(TensorFileError, match="its list of tensors would take"):
        read_tensors(tmp_path / "file", everything)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(TensorFileError, match="It is not a file"):
            read_tensors(path, everything)
