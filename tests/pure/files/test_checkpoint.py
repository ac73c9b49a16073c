"""Tensors from files: mapped as they are, or refused in a sentence."""

import pytest
import safetensors.torch
import torch
from instantid_swift.identity.adapter import read_tensors
from instantid_swift.utils import InstantIDError


@pytest.mark.parametrize("save", [safetensors.torch.save_file, torch.save], ids=["safetensors", "pickle"])
def test_tensors_are_mapped_and_not_copied(tmp_path, save):
    """They were read into memory of their own: 1.7 GB that ComfyUI did not know of."""
    path, tensors = tmp_path / "file", {"weight": torch.rand(100_000), "half": torch.rand(3).half()}
    save(tensors, path)
    found = read_tensors(path)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    with open("/proc/self/maps") as maps:
        mapped = [range(*(int(end, 16) for end in line.split()[0].split("-"))) for line in maps if str(path) in line]
    assert any(found["weight"].data_ptr() in addresses for addresses in mapped)


def test_a_dictionary_in_a_dictionary_and_what_is_no_tensor(tmp_path):
    torch.save({"image_proj": {"latents": torch.ones(1), "steps": 3}, "x": None}, tmp_path / "file")
    assert read_tensors(tmp_path / "file") == {"image_proj.latents": torch.ones(1)}


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path / "harm").touch, ()
    torch.save({"weight": Harm()}, tmp_path / "file")
    with pytest.raises(InstantIDError, match="damaged"):
        read_tensors(tmp_path / "file")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"pickle", (1 << 20).to_bytes(8, "little") + b"{" + bytes(100)],
                         ids=["no tensors", "cut off"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InstantIDError, match=f"not downloaded completely \\({len(content)} bytes\\)"):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("content, words", [
    (b"<html><head>", "a web page"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer")])
def test_what_was_saved_in_place_of_an_adapter(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InstantIDError, match=f"It is {words}"):
        read_tensors(tmp_path / "file")
