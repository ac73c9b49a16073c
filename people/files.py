"""Saved people: one safetensors file each, which holds a `Person` exactly.

Tensors: embeddings, points, sizes and, if they were kept, crops, as `Person` has them. Metadata, all as text: `format` and
`version`, `embedder`, `saved` (time, UTC).
"""

import contextlib
import datetime
import os
import re
import uuid

import safetensors
import safetensors.torch
import torch

from ..resampler import EMBEDDING_WIDTH
from ..utils import InstantIDError
from .person import CROP, UNKNOWN, Person, check_embedder

EXTENSION = ".safetensors"
FORMAT, VERSION = "InstantID person", "1"
IF_EXISTS = ("new number", "replace", "error")

_SHAPES = {"embeddings": (torch.float32, (EMBEDDING_WIDTH,)), "points": (torch.float32, (5, 2)), "sizes": (torch.int64, (2,)),
           "crops": (torch.uint8, (CROP, CROP, 3))}
_NAME = re.compile(r"[^\W_]([\w \-+,&'().]{0,58}[\w)])?")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\..*)?", re.IGNORECASE)  # by Windows


def file_name(name):
    """Returns the file of a person of this name, without a folder. InstantIDError if a file cannot have the name or would lie
    elsewhere."""
    plain = name.strip(" ").removesuffix(EXTENSION).strip(" ")
    if not _NAME.fullmatch(plain) or _RESERVED.fullmatch(plain):
        raise InstantIDError(f"A person cannot be saved under the name {name!r:.80}. Choose a name of up to 60 letters, "
                             "digits, spaces, '-' and '_' that begins with a letter or a digit.")
    return plain + EXTENSION


def save_person(person, folder, name, if_exists="new number", keep_crops=True):
    """Writes a person into a folder, which is made if it is not there. Returns the file's path.

    if_exists: what happens where the name is taken, one of IF_EXISTS; a new number is put after the name: name_2, name_3. The
    file appears whole or not at all. InstantIDError if the name cannot be used.
    """
    path = os.path.join(folder, file_name(name))
    stem, number = path.removesuffix(EXTENSION), 1
    while os.path.lexists(path) and if_exists != "replace":
        if if_exists == "error":
            raise InstantIDError(f"There is a saved person {os.path.basename(path)} already. Choose another name, or set "
                                 "if_exists to new number or replace.")
        number += 1
        path = f"{stem}_{number}{EXTENSION}"
    tensors = {name: getattr(person, name).contiguous() for name in _SHAPES if getattr(person, name) is not None}
    if not keep_crops:
        tensors.pop("crops", None)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
    try:
        safetensors.torch.save_file(tensors, temporary, {"format": FORMAT, "version": VERSION, "embedder": person.embedder,
                                                         "saved": now})
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
    return path


def read_crops(path, most):
    """Returns the first crops of a person's file, uint8 [n, 112, 112, 3], RGB, and nothing else of it.

    most: no more than these. None where the file has none, is damaged or is something else.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            crops = file.get_slice("crops")[:most]
    except Exception:  # of safetensors and of the system, which have no common class
        return None
    return crops if crops.dtype == torch.uint8 and len(crops) and crops.shape[1:] == (CROP, CROP, 3) else None


def load_person(path):
    """Returns the person in a file. InstantIDError for a file that is not a saved person, or not a complete one."""
    name = os.path.basename(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {key: file.get_tensor(key).clone() for key in file.keys()}
    except Exception as error:  # of safetensors and of the system, which have no common class
        raise InstantIDError(f"The saved person {name} cannot be read: it is damaged or was not copied completely "
                             f"({error}).") from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise InstantIDError(f"The file {name} was not written by InstantID Save Person, or by a newer version of it: save the "
                             "person again, or update InstantID Swift.")
    photos = len(tensors.get("embeddings", ()))
    found = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}
    wanted = {key: (dtype, (photos, *shape)) for key, (dtype, shape) in _SHAPES.items() if key != "crops" or key in found}
    if not photos or found != wanted or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InstantIDError(f"The saved person {name} does not hold the tensors of a person: save the person again.")
    embedder = metadata.get("embedder", UNKNOWN)
    check_embedder(embedder)
    return Person(tensors["embeddings"], tensors["points"], tensors["sizes"], embedder, tensors.get("crops"))
