"""Tensors by name from a safetensors file or a torch pickle, read into memory of their own.

No file stays mapped into memory. A program that overwrites a mapped file would change the weights in use, and one that
truncates it would end the process.
"""

import json
import math
import os
import zipfile

import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}  # of the tensors that can be read
MOST_HEADER = 4 << 20      # bytes of a file's list of tensors; an adapter's takes 0.05 MB, SDXL's 0.4 MB
MOST_PICKLED = 4 << 30     # bytes of a pickle, which has to be read as a whole
ENDING = b"PK\5\6"         # of a zip file
ENDING_BYTES = 22


class TensorFileError(ValueError):
    """A file holds no tensors that can be used; the message says what was found."""
    __module__ = "InstantID"  # what the editor shows before the name


def read_tensors(path, choose):
    """Returns {name: tensor} of a file's chosen tensors, on the CPU, in the precision of the file.

    The two formats are told apart by content. Dictionaries in a dictionary are named "outer.inner". choose: a function of
    {name: shape} of all tensors to the names of those wanted; whatever it raises goes to the caller. From a safetensors file
    only the chosen ones are read. TensorFileError where the file is no tensor file, or a chosen tensor is not an array of
    finite floating-point numbers.
    """
    if not os.path.isfile(path):
        raise TensorFileError("It is not a file.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise TensorFileError("It is empty: download it again.")
            head = file.read(9)
            try:
                # a safetensors file begins with the length of its header, then comes JSON
                tensors = (_read_safetensors if head[8:] == b"{" else _read_pickle)(file, size, choose)
            except (_ChoiceError, TensorFileError):
                raise
            except Exception as error:
                raise TensorFileError(f"It is damaged or was not downloaded completely ({size:,} bytes can't be read as "
                                      f"tensors: {type(error).__name__}): download it again.") from error
    except _ChoiceError as error:
        raise error.__cause__ from None
    except OSError as error:
        raise TensorFileError(f"It cannot be read ({error.strerror}).") from error
    for name, tensor in tensors.items():
        _check_numbers(name, tensor)
    return tensors


class _ChoiceError(Exception):
    """Carries an exception of `choose` past the handling of damaged files."""


def _chosen(choose, shapes):
    try:
        return choose(shapes)
    except Exception as error:
        raise _ChoiceError from error


def _read_safetensors(file, size, choose):
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(MOST_HEADER, size - 8):
        raise TensorFileError(f"It is damaged: its list of tensors would take {length:,} bytes. Download it again.")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start = 8 + length
    if any(not 0 <= begin <= end <= size - start for begin, end in (entry["data_offsets"] for entry in header.values())):
        raise EOFError
    tensors = {}
    for name in _chosen(choose, {name: tuple(entry["shape"]) for name, entry in header.items()}):
        dtype, shape, (begin, end) = (header[name][part] for part in ("dtype", "shape", "data_offsets"))
        if dtype not in DTYPES:
            raise TensorFileError(f"Its tensor {_quoted(name)} holds {_quoted(str(dtype))} in place of floating-point numbers.")
        if math.prod(shape) * DTYPES[dtype].itemsize != end - begin:
            raise ValueError
        tensors[name] = torch.empty(shape, dtype=DTYPES[dtype])
        file.seek(start + begin)
        if file.readinto(memoryview(tensors[name].flatten().view(torch.uint8).numpy())) != end - begin:
            raise EOFError
    return tensors


def _read_pickle(file, size, choose):
    if size > MOST_PICKLED:
        raise TensorFileError(f"It has {size / 1e9:.1f} GB, which is more than an adapter can have.")
    if file.seek(0) == 0 and file.read(4) == b"PK\3\4":
        _refuse_unpacking(file, size)
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TensorFileError("It holds no tensors by name.")
    flat = {}
    for key, value in loaded.items():
        nested = value.items() if isinstance(value, dict) else [(None, value)]
        flat.update({key if inner is None else f"{key}.{inner}": tensor for inner, tensor in nested})
    flat = {name: value for name, value in flat.items() if isinstance(name, str)}
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in flat.items()}
    tensors = {name: flat[name] for name in _chosen(choose, shapes)}
    for name, tensor in tensors.items():
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise TensorFileError(f"Its entry {_quoted(name)} is no tensor but a {type(tensor).__name__}.")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise TensorFileError(f"Its tensor {_quoted(name)} holds no array of numbers ({tensor.layout} on {tensor.device}).")
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(torch.Tensor.untyped_storage, tensors.values())}
    if sum(storages.values()) > size:
        raise TensorFileError(f"Its tensors claim {sum(storages.values()):,} bytes, which is more than the file has.")
    return tensors


def _refuse_unpacking(file, size):
    """Refuses a zip file that unpacks to more than its own size; torch.save never compresses."""
    file.seek(max(size - 65557, 0))
    end = file.read()
    place = end.rfind(ENDING)
    if place < 0 or len(end) < place + ENDING_BYTES:
        raise EOFError
    directory = int.from_bytes(end[place + 12:place + 16], "little")
    if directory > MOST_HEADER:
        raise TensorFileError(f"Its table of contents claims {directory:,} bytes, which is more than an adapter can have.")
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        unpacked = sum(record.file_size for record in records)
        if unpacked > size:
            raise TensorFileError(f"It would unpack to {unpacked:,} bytes, though the file has {size:,}: it was not written by "
                                  "torch.save. Download it again.")
        for record in records:
            if record.filename.endswith("data.pkl") and (
                    record.file_size > MOST_HEADER or b"bytearray" in archive.read(record)):  # takes any size of memory
                raise TensorFileError("Its list of tensors is not one that torch.save writes for an adapter.")


def _check_numbers(name, tensor):
    if not tensor.is_floating_point():
        raise TensorFileError(f"Its tensor {_quoted(name)} holds {str(tensor.dtype).removeprefix('torch.')} in place of "
                              "floating-point numbers.")
    if not tensor.ndim:
        raise TensorFileError(f"Its tensor {_quoted(name)} is a single number.")
    values = tensor.detach()
    if values.element_size() == 1:
        values = values.float()
    # a sum with a number that is not finite is not finite either; a sum that overflows is looked at once more
    if not values.sum(dtype=torch.float64 if values.dtype == torch.float64 else torch.float32).isfinite() \
            and not values.isfinite().all():
        raise TensorFileError(f"Its tensor {_quoted(name)} holds numbers that are not finite (NaN or infinite): the file is "
                              "damaged. Download it again.")


def _quoted(name):
    return repr(name[:80])
