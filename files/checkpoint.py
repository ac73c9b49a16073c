"""Tensors by name from a safetensors file or a torch pickle, mapped into memory as ComfyUI maps its checkpoints."""

import os

import safetensors
import torch


class TensorFileError(ValueError):
    """A file holds no tensors by name; the message says what was found."""
    __module__ = "InstantID"  # what the editor shows before the name


def read_tensors(path):
    """Returns {name: tensor} of a file, on the CPU, in the precision of the file, without a copy.

    The two formats are told apart by content: users rename files. A dictionary in a dictionary is named "outer.inner".
    """
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # the length of the header, then JSON
    except OSError as error:
        raise TensorFileError(f"It cannot be read ({error.strerror}).") from error
    try:
        if is_safetensors:
            with safetensors.safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of safetensors, pickles, zip files and the system, which have no common class
        raise TensorFileError(f"It is damaged or was not downloaded completely ({os.path.getsize(path):,} bytes can't be read "
                              f"as tensors: {type(error).__name__}): download it again.") from error
    tensors = {}
    for name, value in loaded.items() if isinstance(loaded, dict) else ():
        tensors |= {f"{name}.{inner}": tensor for inner, tensor in value.items()} if isinstance(value, dict) else {
            str(name): value}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
