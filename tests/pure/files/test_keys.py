"""Keys of files: each content has one of its own, however the file was replaced, and whenever."""

import os

import pytest
from instantid_swift import caches
from instantid_swift.caches import Cache
from instantid_swift.files.keys import ATTEMPTS, ChangingFileError, get_or_read


def cache_of_text():
    return Cache(1000, len)


def test_same_size_and_time_of_modification_is_another_key(tmp_path):
    """Copying tools keep the time of modification: the old content was used."""
    path, other = tmp_path / "file", tmp_path / "other"
    for name, content in ((path, b"one"), (other, b"two")):
        name.write_bytes(content)
        os.utime(name, ns=(0, 0))
    before = caches.file_key(path)
    os.replace(other, path)
    assert caches.file_key(path) != before
    replaced = caches.file_key(path)
    path.write_bytes(b"six")
    os.utime(path, ns=(0, 0))
    assert caches.file_key(path) != replaced


def test_a_file_that_is_replaced_while_it_is_read(tmp_path):
    """The old content came under the key of the new one."""
    path, cache, reads = tmp_path / "file", cache_of_text(), []
    path.write_bytes(b"old")

    def read(key):
        reads.append((path.read_bytes(), key))
        if len(reads) == 1:
            (tmp_path / "new").write_bytes(b"new")
            os.replace(tmp_path / "new", path)
        return reads[-1][0]
    assert get_or_read(cache, [path], read) == b"new"
    assert [content for content, _ in reads] == [b"old", b"new"] and reads[1][1] == (caches.file_key(path),)
    assert get_or_read(cache, [path], read) == b"new" and len(reads) == 2 and cache.statistics()["entries"] == 1


def test_an_error_that_comes_from_half_a_file_is_not_the_last_word(tmp_path):
    path, states = tmp_path / "file", iter([b"whole"])
    path.write_bytes(b"ha")

    def read(key):
        if path.read_bytes() == b"ha":
            path.write_bytes(next(states))
            raise ValueError("damaged")
        return path.read_bytes()
    assert get_or_read(cache_of_text(), [path], read) == b"whole"
    with pytest.raises(ZeroDivisionError):
        get_or_read(cache_of_text(), [path], lambda key: 1 // 0)


def test_a_file_that_never_rests(tmp_path):
    path, cache, reads = tmp_path / "file", cache_of_text(), []
    path.write_bytes(b"")

    def read(key):
        reads.append(1)
        path.write_bytes(b"x" * len(reads))
        return "half"
    with pytest.raises(ChangingFileError, match="^file cannot be read, because another program is changing the file"):
        get_or_read(cache, [path], read)
    assert len(reads) == ATTEMPTS and not cache.statistics()["entries"]


def test_settings_are_in_the_key(tmp_path):
    path, cache = tmp_path / "file", cache_of_text()
    path.write_bytes(b"")
    assert [get_or_read(cache, [path], lambda key: key[0], setting) for setting in ("CPU", "CUDA", "CPU")] == [
        "CPU", "CUDA", "CPU"]
