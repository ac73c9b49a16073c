"""Files of people: to the bit, whole or not at all, in their folder; hostile ones are refused in a sentence."""

import os

import pytest
import safetensors.torch
import torch
from instantid_swift.people.files import file_name, load_person, save_person
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
    assert same(load_person(save_person(one, tmp_path / "people", "Anna")), one)
    assert same(load_person(save_person(one, tmp_path / "people", "Anna without", keep_crops=False)), one._replace(crops=None))
    assert everything_in(tmp_path) == ["people", "people/Anna without.safetensors", "people/Anna.safetensors"]


def test_the_metadata_says_what_it_is(tmp_path):
    with safetensors.safe_open(save_person(person(), tmp_path, "Anna"), "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"]) == ("InstantID person", "1")
    assert metadata["embedder"] == "antelopev2/glintr100.onnx" and metadata["saved"].startswith("20")


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


GOOD_NAMES = ("Anna", "Anna Müller", "安娜", "anna-2", "a.b", "Anna.safetensors", " Anna ", "concert", "x" * 60)
PARTS = ("..", "/", "\\", ":", "C:", "\0", "\n", "*", "?", '"', "<", ">", "|", "~/", "//", "../../", "..\\", "/etc/passwd",
         "\u202e", "\ud800", "\u2028", "\x1b")
HOSTILE_NAMES = (*(part for part in PARTS if part != "~/"), *(f"a{part}b" for part in PARTS if part != ".."),
                 *(f"{part}a" for part in PARTS if part != "\n"), *(f"../{part}" for part in PARTS), "", " ", ".",
                 "...", ".hidden", "con", "CON", "nul.txt", "Aux", "COM1", "lpt9.x", "COM¹", "CONIN$", "x" * 61,
                 "a.", ".safetensors", "..safetensors")


@pytest.mark.parametrize("name", GOOD_NAMES, ids=repr)
def test_a_name_may_be_any_text_that_every_system_takes(tmp_path, name):
    path = save_person(person(1), tmp_path, name, keep_crops=False)
    assert os.path.dirname(path) == str(tmp_path) and len(everything_in(tmp_path)) == 1


def test_no_name_leads_out_of_the_folder(tmp_path):
    assert len(HOSTILE_NAMES) >= 100
    for name in HOSTILE_NAMES:
        with pytest.raises(InstantIDError, match="A person cannot be saved under the name"):
            save_person(person(1), tmp_path / "people", name)
    assert everything_in(tmp_path) == []
    assert file_name("a.b") == "a.b.safetensors"


GOOD = person(2)


@pytest.mark.parametrize("changed, words", [
    ({"embeddings": torch.ones(2, 512, dtype=torch.float16)}, "not hold the tensors of a person"),
    ({"embeddings": torch.ones(0, 512)}, "not hold the tensors of a person"),
    ({"embeddings": torch.full((2, 512), float("nan"))}, "not hold the tensors of a person"),
    ({"points": torch.full((2, 5, 2), float("inf"))}, "not hold the tensors of a person"),
    ({"crops": torch.ones(2, 1, 1, 3, dtype=torch.uint8)}, "not hold the tensors of a person"),
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


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_that_was_not_copied_completely(tmp_path, length):
    path = save_person(GOOD, tmp_path, "Eve")
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) + length if length < 0 else length)
    with pytest.raises(InstantIDError, match="Eve.safetensors cannot be read: it is damaged or was not copied completely"):
        load_person(path)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(InstantIDError, match="Eve.safetensors cannot be read"):
        load_person(tmp_path / "Eve.safetensors")
