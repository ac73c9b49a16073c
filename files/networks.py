"""ONNX files: what a network says of itself before its weights, read in bounded time and memory."""

import os
from typing import NamedTuple

# field numbers of onnx.proto
GRAPH = 7
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12  # of a graph
NODE_NAME, INITIALIZER_NAME = 3, 8
MOST_FIELDS = 200_000  # of a file; antelopev2's largest network has 4,000
MOST_BYTES = 1 << 16   # of a name, or of the description of an input
LONGEST_VARINT = 10    # bytes, for 64 bits
FIRST_NODES = 8


class NetworkFileError(ValueError):
    """A file is no whole ONNX network; the message says what was found."""
    __module__ = "InstantID"  # what the editor shows before the name


class Network(NamedTuple):
    """What an ONNX file says of itself before its weights. 0 stands for a dimension without a fixed size."""
    inputs: list   # shapes
    outputs: list  # shapes
    nodes: list    # names of the first few operations


def read_network(path):
    """Returns the `Network` of an ONNX file. The weights, 400 MB in antelopev2, are passed over.

    NetworkFileError if the file is no whole ONNX network, or is described by more than a face network needs.
    """
    import onnx
    from google.protobuf.message import DecodeError
    weights, inputs, outputs, nodes = set(), [], [], []
    if not os.path.isfile(path):
        raise NetworkFileError(f"{path} is not a file.")
    try:
        with open(path, "rb") as file:
            message = _Message(file)
            graph = next((start, end) for field, start, end in message.fields() if field == GRAPH)
            for field, start, end in message.fields(*graph):
                if field == INITIALIZER:
                    weights.update(message.read(s, e) for f, s, e in message.fields(start, end) if f == INITIALIZER_NAME)
                elif field == NODE and len(nodes) < FIRST_NODES:
                    names = [message.read(s, e).decode() for f, s, e in message.fields(start, end) if f == NODE_NAME]
                    nodes.append(names[0] if names else "")
                elif field in (INPUT, OUTPUT):
                    value = onnx.ValueInfoProto.FromString(message.read(start, end))
                    (inputs if field == INPUT else outputs).append(value)
    except (OSError, StopIteration, DecodeError, UnicodeDecodeError) as error:
        raise NetworkFileError(f"{path} is no whole ONNX network ({type(error).__name__}).") from error
    inputs = [value for value in inputs if value.name.encode() not in weights]  # old exports list weights as inputs
    return Network(*([[d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
                     for values in (inputs, outputs)), nodes)


class _Message:
    """The fields of a protobuf message in a file, and of the messages in it. Reads no more than it is asked for."""

    def __init__(self, file):
        self.file, self.size, self.fields_left = file, os.fstat(file.fileno()).st_size, MOST_FIELDS

    def fields(self, position=0, end=None):
        """Yields (number, start, end) of each length-delimited field between two positions; skips over the others."""
        end = self.size if end is None else end
        while position < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise NetworkFileError(f"{self.file.name} is described by more than {MOST_FIELDS:,} fields.")
            self.file.seek(position)
            head = self.file.read(min(2 * LONGEST_VARINT, end - position))
            tag, used = self._varint(head, 0)
            number, kind = tag >> 3, tag & 7
            if number == 0 or kind not in (0, 1, 2, 5):
                raise NetworkFileError(f"{self.file.name} is no ONNX network.")
            length = {0: 0, 1: 8, 5: 4}.get(kind, 0)
            if kind in (0, 2):
                value, used = self._varint(head, used)
                length = value if kind == 2 else 0
            start, position = position + used, position + used + length
            if position > end:
                raise NetworkFileError(f"{self.file.name} was not downloaded completely.")
            if kind == 2:
                yield number, start, position

    def _varint(self, head, place):
        """(the number that begins at a place of some bytes, the place after it)."""
        value = 0
        for count, byte in enumerate(head[place:place + LONGEST_VARINT]):
            value |= (byte & 127) << 7 * count
            if byte < 128:
                return value, place + count + 1
        raise NetworkFileError(f"{self.file.name} is no whole ONNX network.")

    def read(self, start, end):
        if end - start > MOST_BYTES:
            raise NetworkFileError(f"{self.file.name} has a name or description of {end - start:,} bytes.")
        self.file.seek(start)
        return self.file.read(end - start)


def with_free_batch(path):
    """Changes an ONNX file whose input is fixed to one picture, so that it takes any number of them. Returns bytes.

    The operations and weights are the file's. Whether they really work on several pictures is to be checked by a run.
    """
    import onnx
    model = onnx.load(path)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_param = "batch"
    for output in model.graph.output:  # their number of rows was that of one picture
        for number, dimension in enumerate(output.type.tensor_type.shape.dim[:-1]):
            dimension.Clear()
            dimension.dim_param = f"{output.name}_{number}"
    del model.graph.value_info[:]
    return model.SerializeToString()
