"""Files of people: to the bit, whole or not at all, in their folder; hostile ones are refused in a sentence."""

import json
import os
import random
import struct
import threading

import pytest
import safetensors.torch
import torch
from instantid_swift.people import files
from instantid_swift.people.files import file_name, load_person, person_from_bytes, person_to_bytes, save_person
from instantid_swift.people.person import Person, PersonError


def person(photos=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Person(torch.randn(photos, 512, generator=generator) * 20, torch.rand(photos, 5, 2, generator=generator) * 320,
                  torch.full((photos, 2), 320), "antelopev2/glintr100.onnx", "4ab1d6",
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
    assert (metadata["format"], metadata["version"], metadata["photos"]) == ("InstantID person", "1", "3")
    assert metadata["embedder"] == "antelopev2/glintr100.onnx" and metadata["saved"].startswith("20")


def test_an_existing_name_is_never_overwritten_silently(tmp_path):
    first, second = person(seed=1), person(seed=2)
    path = save_person(first, tmp_path, "Anna")
    assert os.path.basename(save_person(second, tmp_path, "Anna")) == "Anna_2.safetensors"
    assert os.path.basename(save_person(second, tmp_path, "Anna")) == "Anna_3.safetensors"
    with pytest.raises(PersonError, match="There is a saved person Anna.safetensors already"):
        save_person(second, tmp_path, "Anna", "error")
    assert same(load_person(path), first)
    assert save_person(second, tmp_path, "Anna", "replace") == path and same(load_person(path), second)
    assert everything_in(tmp_path) == ["Anna.safetensors", "Anna_2.safetensors", "Anna_3.safetensors"]


def test_on_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError("not supported")
    monkeypatch.setattr(os, "link", refuse)
    names = [os.path.basename(save_person(person(), tmp_path, "Anna")) for _ in range(2)]
    assert names == ["Anna.safetensors", "Anna_2.safetensors"] == everything_in(tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*anything):
        raise OSError("disk full")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_person(person(), tmp_path, "Anna")
    assert everything_in(tmp_path) == []


GOOD_NAMES = ("Anna", "Anna Müller", "安娜", "anna-2", "a.b", "Anna.safetensors", " Anna ", "concert", "x" * 100)
PARTS = ("..", "/", "\\", ":", "C:", "\0", "\n", "*", "?", '"', "<", ">", "|", "~/", "//", "../../", "..\\", "/etc/passwd",
         "\u202e", "\ud800", "\u2028", "\x1b")
HOSTILE_NAMES = (*(part for part in PARTS if part != "~/"), *(f"a{part}b" for part in PARTS if part != ".."),
                 *(f"{part}a" for part in PARTS if part != "\n"), *(f"../{part}" for part in PARTS), "", " ", ".",
                 "...", ".hidden", "con", "CON", "nul.txt", "Aux", "COM1", "lpt9.x", "COM¹", "CONIN$", "x" * 101, "ü" * 91, "a.",
                 ".safetensors", "..safetensors", None, 3)


@pytest.mark.parametrize("name", GOOD_NAMES, ids=repr)
def test_a_name_may_be_any_text_that_every_system_takes(tmp_path, name):
    path = save_person(person(1), tmp_path, name, keep_crops=False)
    assert os.path.dirname(path) == str(tmp_path) and len(everything_in(tmp_path)) == 1


def test_no_name_leads_out_of_the_folder(tmp_path):
    assert len(HOSTILE_NAMES) >= 100
    for name in HOSTILE_NAMES:
        with pytest.raises(PersonError, match="A person cannot be saved under the name"):
            save_person(person(1), tmp_path / "people", name)
    assert everything_in(tmp_path) == []
    assert file_name("a.b") == "a.b.safetensors"


# ---- hostile files


def rewritten(tensors=None, **metadata):
    """A file of a person with other tensors or metadata, its content's hash right."""
    data = person_to_bytes(person(2))
    tensors = {**safetensors.torch.load(data), **(tensors or {})}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    header = {key: value for key, value in {**header, **metadata}.items() if value is not None and key != "content"}
    return safetensors.torch.save(tensors, {**header, "content": files._content(tensors, header)})


@pytest.mark.parametrize("data, words", [
    (b"", "not copied completely"),
    (b"\x80\x04pickle" * 9, "no safetensors file"),
    (struct.pack("<Q", 1 << 60) + b"{}", "no safetensors file"),
    (struct.pack("<Q", 60000) + b"[" * 60000, "no safetensors file"),
    (b"\0" * (files.MOST_BYTES + 1), "larger than 64 MiB"),
    (safetensors.torch.save({"embeddings": torch.ones(1, 512)}), "not written by InstantID Save Person"),
    (rewritten(format="other"), "not written by InstantID Save Person"),
    (rewritten(version="2"), "its version is '2'"),
    (rewritten(version=None), "its version is 'missing'"),
    (rewritten(photos="7"), "not as many photos"),
    (rewritten(embedder="buffalo_l/w600k_r50.onnx"), "the networks buffalo_l"),
    (rewritten({"lora_up": torch.ones(1)}), "it holds the tensors crops, embeddings, lora_up"),
    (rewritten({"points": None}), "it holds the tensors crops, embeddings, sizes"),
    (rewritten({"embeddings": torch.full((2, 512), float("nan"))}), "embeddings are not all finite"),
    (rewritten({"points": torch.full((2, 5, 2), float("inf"))}), "points are not all finite"),
    (rewritten({"points": torch.full((2, 5, 2), 1e9)}), "not those of a picture"),
    (rewritten({"sizes": torch.zeros(2, 2, dtype=torch.int64)}), "not those of a picture"),
    (rewritten({"embeddings": torch.zeros(2, 512)}), "nobody's"),
    (rewritten({"embeddings": torch.ones(2, 512, dtype=torch.float16)}), r"embeddings are torch.float16 \[2, 512\]"),
    (rewritten({"embeddings": torch.ones(0, 512)}), "0 photos"),
    (rewritten({"embeddings": torch.tensor(1.0)}), "0 photos"),
    (rewritten({"crops": torch.ones(2, 1, 1, 3, dtype=torch.uint8)}), "its crops are"),
])
def test_a_hostile_file_is_refused_in_a_sentence(tmp_path, data, words):
    path = tmp_path / "Eve.safetensors"
    path.write_bytes(data)
    with pytest.raises(PersonError, match=words) as refusal:
        load_person(path)
    assert str(refusal.value).startswith("The saved person Eve.safetensors cannot be used: ")


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(PersonError, match="Eve.safetensors cannot be read: No such file"):
        load_person(tmp_path / "Eve.safetensors")


def test_a_thousand_mutations_are_refused_or_loaded_right():
    one = person(1)._replace(crops=None)
    data, chance = person_to_bytes(one), random.Random(15)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    refused = 0
    for number in range(1000):
        changed = bytearray(data)
        place = chance.randrange(header if number % 2 else len(data))
        match chance.randrange(5):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place:place + chance.randrange(1, 40)] = b""
            case 2:
                changed[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 40)))
            case 3:
                del changed[place:]
            case 4:
                other = chance.randrange(len(data))
                changed[place:place + 16] = data[other:other + 16]
        try:
            assert same(person_from_bytes(bytes(changed)), one)
        except PersonError as error:
            refused += 1
            assert str(error).endswith(".")
    assert refused > 900


def test_eight_threads_lose_nothing(tmp_path):
    saved, errors = [], []

    def work(number):
        try:
            for turn in range(5):
                one = person(1, seed=10 * number + turn)
                path = save_person(one, tmp_path, "Anna", keep_crops=False)
                saved.append((path, one))
                for name in os.listdir(tmp_path):
                    if name.endswith(".safetensors"):
                        load_person(tmp_path / name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len({path for path, _ in saved}) == len(everything_in(tmp_path)) == 40
    assert all(same(load_person(path), one._replace(crops=None)) for path, one in saved)
