"""Tensors from files: mapped as they are, or refused in a sentence."""

import pickle

import pytest
import safetensors.torch
import torch
from instantid_swift.identity.adapter import read_tensors
from instantid_swift.utils import InstantIDError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b.half": torch.rand(5).half(), "b.bf": torch.rand(2, 2, 2).bfloat16(),
           "b.eight": torch.rand(3).to(torch.float8_e4m3fn), "b.none": torch.zeros(0, 3)}


def write(path, form, tensors):
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_tensors_are_read_as_they_are(tmp_path, form):
    found = read_tensors(write(tmp_path / "file", form, TENSORS))
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].double(), tensor.double())


@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_tensors_are_mapped_and_not_copied(tmp_path, form):
    """They were read into memory of their own: 1.7 GB that ComfyUI did not know of."""
    path = write(tmp_path / "file", form, {"weight": torch.ones(100_000)})
    found = read_tensors(path)["weight"]
    with open("/proc/self/maps") as maps:
        mapped = [range(*(int(end, 16) for end in line.split()[0].split("-"))) for line in maps if str(path) in line]
    assert any(found.data_ptr() in addresses for addresses in mapped)


def test_a_dictionary_in_a_dictionary_and_what_is_no_tensor(tmp_path):
    path = write(tmp_path / "file", "pickle",
                 {"image_proj": {"latents": torch.ones(1), "steps": 3}, 3: torch.ones(2), "x": None})
    assert {name: len(tensor) for name, tensor in read_tensors(path).items()} == {"image_proj.latents": 1, "3": 2}
    assert read_tensors(write(path, "pickle", [torch.ones(1)])) == {}


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path / "harm").touch, ()
    for number, path in enumerate((tmp_path / "plain", tmp_path / "zip")):
        if number:
            torch.save({"weight": Harm()}, path)
        else:
            path.write_bytes(pickle.dumps({"weight": Harm()}, protocol=2))
        with pytest.raises(InstantIDError, match="damaged"):
            read_tensors(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [
    b"", b"pickle", b"\x02\0\0\0\0\0\0\0{}}", (1 << 62).to_bytes(8, "little") + b"{" + bytes(100)],
                         ids=["empty", "no tensors", "header too short", "header of gigabytes"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InstantIDError, match=f"not downloaded completely \\({len(content)} bytes can't be read as tensors"):
        read_tensors(tmp_path / "file")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InstantIDError, match="It cannot be read"):
        read_tensors(tmp_path)
