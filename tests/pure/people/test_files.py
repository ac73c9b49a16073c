"""Files of people: to the bit, whole or not at all, in their folder; others are refused in a sentence."""

import os

import pytest
import safetensors.torch
import torch
from instantid_swift.people.files import load_person, save_person
from instantid_swift.people.person import Person
from instantid_swift.utils import InstantIDError


def person(photos=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Person(torch.randn(photos, 512, generator=generator) * 20, torch.rand(photos, 5, 2, generator=generator) * 320,
                  torch.full((photos, 2), 320), "antelopev2/glintr100.onnx",
                  torch.randint(256, (photos, 112, 112, 3), dtype=torch.uint8, generator=generator))


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_person_comes_back_to_the_bit(tmp_path):
    one = person()
    path = save_person(one, tmp_path / "people", "Anna")
    assert same(load_person(path), one)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata.pop("saved").startswith("20")
    assert metadata == {"format": "InstantID person", "version": "1", "embedder": "antelopev2/glintr100.onnx"}
    assert same(load_person(save_person(one, tmp_path / "people", "Anna without", keep_crops=False)), one._replace(crops=None))
    assert everything_in(tmp_path) == ["people", "people/Anna without.safetensors", "people/Anna.safetensors"]


def test_an_existing_name_is_never_overwritten_silently(tmp_path):
    first, second = person(seed=1), person(seed=2)
    path = save_person(first, tmp_path, "Anna")
    assert os.path.basename(save_person(second, tmp_path, "Anna")) == "Anna_2.safetensors"
    assert os.path.basename(save_person(second, tmp_path, "Anna")) == "Anna_3.safetensors"
    with pytest.raises(InstantIDError, match="There is a saved person Anna.safetensors already"):
        save_person(second, tmp_path, "Anna", "error")
    assert same(load_person(path), first)
    assert save_person(second, tmp_path, "Anna", "replace") == path and same(load_person(path), second)
    assert everything_in(tmp_path) == ["Anna.safetensors", "Anna_2.safetensors", "Anna_3.safetensors"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*anything):
        raise OSError("disk full")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_person(person(), tmp_path, "Anna")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("name", ["Anna Müller", "安娜", "a.b", "Anna.safetensors", " Anna ", "x" * 60], ids=repr)
def test_a_name_may_be_any_text_that_every_system_takes(tmp_path, name):
    path = save_person(person(1), tmp_path, name, keep_crops=False)
    assert os.path.dirname(path) == str(tmp_path) and len(everything_in(tmp_path)) == 1


@pytest.mark.parametrize("name", ["", "..", "../a", "/a", "a\\b", "C:a", "a?", ".hidden", "con", "a.", "x" * 61], ids=repr)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    """Nor is one taken that some system refuses."""
    with pytest.raises(InstantIDError, match="A person cannot be saved under the name"):
        save_person(person(1), tmp_path / "people", name)
    assert everything_in(tmp_path) == []


GOOD = person(2)


@pytest.mark.parametrize("changed, words", [
    ({"embeddings": torch.ones(2, 512, dtype=torch.float16)}, "not hold the tensors of a person"),
    ({"embeddings": torch.full((2, 512), float("nan"))}, "not hold the tensors of a person"),
    ({"lora_up": torch.ones(1)}, "not hold the tensors of a person"),
    ({"format": "other"}, "not written by InstantID Save Person"),
    ({"version": "2"}, "by a newer version"),
    ({"embedder": "buffalo_l/w600k_r50.onnx"}, "the networks buffalo_l"),
], ids=lambda value: "" if isinstance(value, str) else next(iter(value)))
def test_a_file_of_another_kind_is_refused_in_a_sentence(tmp_path, changed, words):
    tensors = {name: getattr(GOOD, name) for name in ("embeddings", "points", "sizes", "crops")}
    metadata = {"format": "InstantID person", "version": "1", "embedder": GOOD.embedder}
    for name, value in changed.items():
        (metadata if isinstance(value, str) else tensors)[name] = value
    safetensors.torch.save_file(tensors, tmp_path / "Eve.safetensors", metadata)
    with pytest.raises(InstantIDError, match=words):
        load_person(tmp_path / "Eve.safetensors")


def test_a_file_that_was_not_copied_completely(tmp_path):
    path = save_person(GOOD, tmp_path, "Eve")
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(InstantIDError, match="Eve.safetensors cannot be read: it is damaged or was not copied completely"):
        load_person(path)
