"""Saved people: one safetensors file each, which holds a `Person` to the bit.

Tensors: embeddings, points, sizes and, if they were kept, crops, as `Person` has them. Metadata, all as text: `format` and
`version`, `photos` (their number), `embedder` and `embedder_sha256`, `saved` (time, UTC), `content` (a hash of all that, by which
a damaged file is known).
"""

import contextlib
import datetime
import json
import os
import re
import threading
import unicodedata
import uuid

import torch
import xxhash

from .person import CROP, EMBEDDING_WIDTH, Person, PersonError, check_embedder

EXTENSION = ".safetensors"
FORMAT, VERSION = "InstantID person", "1"
IF_EXISTS = ("new number", "replace", "error")

MOST_PHOTOS = 1024
MOST_BYTES = 64 << 20     # more than as many photos take
MOST_HEADER = 64 << 10
MOST_PIXELS = 1 << 17     # of a photo's side
FARTHEST = 1 << 20        # of a point from the picture's corner, in pixels
LONGEST_NAME = 100        # characters
LONGEST_NAME_BYTES = 180  # file systems have 255, of which a temporary file needs some

_SHAPES = {"embeddings": (torch.float32, (EMBEDDING_WIDTH,)), "points": (torch.float32, (5, 2)), "sizes": (torch.int64, (2,)),
           "crops": (torch.uint8, (CROP, CROP, 3))}
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows
_publishing = threading.Lock()


def file_name(name):
    """The file of a person of this name, without a folder. PersonError if a file cannot have it or would be elsewhere."""
    plain = name.strip(" ").removesuffix(EXTENSION).strip(" ") if isinstance(name, str) else ""
    reason = _reason_against(plain)
    if reason:
        raise PersonError(f"A person cannot be saved under the name {name!r:.120}: {reason}. Choose a name of letters, digits, "
                          "spaces, '-' and '_'.")
    return plain + EXTENSION


def _reason_against(name):
    if not name:
        return "it is empty"
    try:
        if len(name) > LONGEST_NAME or len(name.encode()) > LONGEST_NAME_BYTES:
            return "it is too long"
    except UnicodeEncodeError:
        return "it is no valid text"
    for character in name:
        if character in '/\\:*?"<>|' or unicodedata.category(character).startswith(("C", "Zl", "Zp")):
            return f"it holds {character!r}"
    if name.startswith(".") or name.endswith("."):
        return "it begins or ends with a dot"
    if _RESERVED.fullmatch(unicodedata.normalize("NFKC", name)):
        return "Windows reserves it"
    return None


def save_person(person, folder, name, if_exists="new number", keep_crops=True):
    """Writes a person into a folder, which is made if it is not there. Returns the file's path.

    if_exists: what happens where the name is taken, one of IF_EXISTS; a new number is put after the name: name_2, name_3. The
    file appears whole or not at all. PersonError if the name or the person cannot be saved.
    """
    file = file_name(name)
    if if_exists not in IF_EXISTS:
        raise PersonError(f"if_exists is {if_exists!r}; choose one of {', '.join(IF_EXISTS)}.")
    if person.photos > MOST_PHOTOS:
        raise PersonError(f"A saved person has at most {MOST_PHOTOS} photos, and this one has {person.photos}.")
    data = person_to_bytes(person, keep_crops)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        return _publish(temporary, os.path.join(folder, file), if_exists)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _publish(temporary, path, if_exists):
    """Renames a temporary file to the path, or to one with a number after its name."""
    if if_exists == "replace":
        os.replace(temporary, path)
        return path
    with _publishing:
        stem, number = path.removesuffix(EXTENSION), 1
        while True:
            target = path if number == 1 else f"{stem}_{number}{EXTENSION}"
            try:
                _rename_to_new(temporary, target)
                return target
            except FileExistsError:
                if if_exists == "error":
                    raise PersonError(f"There is a saved person {os.path.basename(path)} already. Choose another name, or set "
                                      "if_exists to new number or replace.") from None
                number += 1


def _rename_to_new(temporary, path):
    """FileExistsError if there is such a file, which another process may have made just now."""
    try:
        os.link(temporary, path)  # the one way that POSIX has to fail where the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def person_to_bytes(person, keep_crops=True):
    """The content of a person's file."""
    import safetensors.torch
    tensors = {name: getattr(person, name).contiguous() for name in _SHAPES if getattr(person, name) is not None}
    if not keep_crops:
        tensors.pop("crops", None)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    metadata = {"format": FORMAT, "version": VERSION, "photos": str(person.photos), "embedder": person.embedder,
                "embedder_sha256": person.embedder_sha256, "saved": now}
    return safetensors.torch.save(tensors, {**metadata, "content": _content(tensors, metadata)})


def _content(tensors, metadata):
    """A hash of all that a file holds."""
    digest = xxhash.xxh3_128(json.dumps([metadata, {name: [str(t.dtype), list(t.shape)] for name, t in tensors.items()}],
                                        sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_person(path):
    """The person in a file. PersonError, in one sentence, for whatever is not a whole file of this format."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PersonError(f"The saved person {os.path.basename(path)} cannot be read: {error.strerror}.") from error
    try:
        return person_from_bytes(data)
    except PersonError as error:
        raise PersonError(f"The saved person {os.path.basename(path)} cannot be used: {error}") from error


def person_from_bytes(data):
    """The person in the content of a file. PersonError as `load_person`, without the file's name."""
    metadata, tensors = _read(data)
    if metadata.get("format") != FORMAT:
        raise PersonError("it was not written by InstantID Save Person.")
    if metadata.get("version") != VERSION:
        raise PersonError(f"its version is {metadata.get('version', 'missing')!r:.20}, and this InstantID Swift reads version "
                          f"{VERSION}: update it.")
    content = metadata.pop("content", None)
    if content != _content(tensors, metadata):
        raise PersonError("it is damaged or was changed: save the person again.")
    _check_tensors(tensors)
    if metadata.get("photos") != str(len(tensors["embeddings"])):
        raise PersonError("it has not as many photos as it says.")
    embedder, sha256 = metadata.get("embedder", ""), metadata.get("embedder_sha256", "")
    check_embedder(embedder)
    return Person(tensors["embeddings"], tensors["points"], tensors["sizes"], embedder, sha256, tensors.get("crops"))


def _read(data):
    """({name: text} of the metadata, {name: tensor})"""
    import safetensors.torch
    if len(data) > MOST_BYTES:
        raise PersonError(f"it is larger than {MOST_BYTES >> 20} MiB, which no saved person is.")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > MOST_HEADER or 8 + length > len(data):
        raise PersonError("it is no safetensors file, or was not copied completely.")
    try:
        tensors = safetensors.torch.load(data)
        metadata = json.loads(data[8:8 + length]).get("__metadata__", {})
    except Exception as error:  # safetensors' own, and what it lets through
        raise PersonError("it is no safetensors file, or is damaged.") from error
    return metadata, tensors


def _check_tensors(tensors):
    """PersonError if they are not those of a `Person`."""
    if not set(_SHAPES) >= set(tensors) >= set(_SHAPES) - {"crops"}:
        raise PersonError(f"it holds the tensors {', '.join(sorted(tensors))[:80]}, and not those of a person.")
    photos = len(tensors["embeddings"]) if tensors["embeddings"].ndim else 0
    if not 1 <= photos <= MOST_PHOTOS:
        raise PersonError(f"it holds {photos} photos, and a person has 1 to {MOST_PHOTOS}.")
    for name, tensor in tensors.items():
        dtype, shape = _SHAPES[name]
        if tensor.dtype != dtype or tensor.shape != (photos, *shape):
            raise PersonError(f"its {name} are {tensor.dtype} {list(tensor.shape)}, not {dtype} {[photos, *shape]}.")
    for name in ("embeddings", "points"):
        if not tensors[name].isfinite().all():
            raise PersonError(f"its {name} are not all finite numbers.")
    if not (tensors["embeddings"].norm(dim=1) > 0).all():
        raise PersonError("it has an embedding of zeros, which is nobody's.")
    if tensors["points"].abs().max() > FARTHEST or not ((tensors["sizes"] >= 1) & (tensors["sizes"] <= MOST_PIXELS)).all():
        raise PersonError("its keypoints or its photos' sizes are not those of a picture.")
