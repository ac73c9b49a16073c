"""Files with faults: adapters and face networks, damaged, exaggerated, or of another kind."""

import functools
import io
import os
import shutil
import struct
import zipfile

import environment
import torch
from instantid_swift import caches, faces
from instantid_swift.identity import adapter as adapters
from oracle import fixtures as fx

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64,
          torch.float8_e4m3fn)


def adapter(random, folder):
    """An adapter's file, opened."""
    path = folder / "adapter.bin"
    _remove(path)
    kind = random.choice(("pickle", "pickle", "bytes", "record", "safetensors", "header", "noise", "no file"))
    if kind == "pickle":
        torch.save(_nested(_changed(random, _tensors())), path)
    elif kind == "bytes":
        path.write_bytes(_damaged(random, _whole()))
    elif kind == "record":
        _rewrite(random, path)
    elif kind == "safetensors":
        import safetensors.torch
        small = {name: tensor.flatten()[:3].clone() for name, tensor in _tensors().items()}
        path.write_bytes(_damaged(random, safetensors.torch.save(small)))
    elif kind == "header":
        header = _any_json(random).encode()
        path.write_bytes(struct.pack("<Q", random.choice((len(header), len(header) + 1, 2 ** 63))) + b"{" + header)
    elif kind == "noise":
        path.write_bytes(random.randbytes(random.choice((0, 1, 8, 9, 100, 5000))))
    else:
        path.mkdir()
    caches.adapters.clear()
    adapters.open_adapter_file(str(path))


@functools.cache
def _tensors():
    """An adapter's tensors of the right shapes; each is one number, so that files are small."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in
                  adapters.Adapter([width * fx.CHANNELS for width in fx.BLOCK_WIDTHS]).state_dict().items()}
    return {name: torch.full((1,) * len(shape), 0.01).expand(shape) for name, shape in shapes.items()}


@functools.cache
def _whole():
    file = io.BytesIO()
    torch.save(_nested(_tensors()), file)
    return file.getvalue()


def _nested(tensors):
    halves = {}
    for name, tensor in tensors.items():
        top, _, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
        if isinstance(halves.setdefault(top, {}), dict):
            halves[top][rest] = tensor
    return halves


def _changed(random, tensors):
    tensors = dict(tensors)
    for _ in range(random.choice((0, 1, 1, 1, 3))):
        name = random.choice(list(tensors))
        change = random.randrange(9)
        tensor = tensors.pop(name)
        shape = list(getattr(tensor, "shape", (3,)))
        if change == 0:
            continue
        if change == 1:
            shape[random.randrange(len(shape) or 1):] = [random.choice((0, 1, 3, 10 ** 6))] * random.randrange(3)
            tensor = torch.zeros(()).expand(shape) if 0 not in shape else torch.zeros(shape)
        elif change == 2:
            tensor = torch.ones((1,) * len(shape)).to(random.choice(DTYPES)).expand(shape)
        elif change == 3:
            tensor = torch.full((1,) * len(shape), random.choice((float("nan"), float("inf")))).expand(shape)
        elif change == 4:
            tensor = random.choice((None, 3, "text", [1], (), {}, 10 ** 400, torch.Size((1, 2)), b"bytes"))
        elif change == 5:
            name = random.choice((3, None, "", "image_proj", name + "x", name * 3, (1, 2), "lora_up", 10 ** 5000))
        elif change == 6:
            tensor = random.choice((torch.tensor(1.0), torch.ones(2, 2).to_sparse(), torch.ones(2, device="meta"),
                                    torch.nn.Parameter(torch.ones(2)), torch.ones(0)))
        elif change == 7 and isinstance(tensor, torch.Tensor) and tensor.ndim > 1:
            tensor = tensor.mT
        tensors[name] = tensor
    return tensors


def _damaged(random, content):
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 5, 50))):
        start, length = random.randrange(len(content) + 1), random.choice((1, 1, 4, 100))
        change = random.randrange(5)
        if change == 0:
            del content[start:]
        elif change == 1:
            content[start:start + length] = random.randbytes(length)
        elif change == 2:
            content[start:start] = content[:length]
        elif change == 3:
            content[start:start + length] = b"\xff" * length
        else:
            del content[start:start + length]
    return bytes(content)


def _rewrite(random, path):
    """The whole pickle's zip file with damaged, repeated or swollen records."""
    compression = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(_whole())) as source, zipfile.ZipFile(path, "w", compression) as copy:
        victim = random.choice([name for name in source.namelist() if "pkl" in name or random.random() < 0.1])
        for name in source.namelist():
            content = source.read(name)
            if name == victim:
                content = random.choice((lambda content: _damaged(random, content), lambda content: b"",
                                         lambda content: bytes(30_000_000), lambda content: content + b"\x80" * 9))(content)
            copy.writestr(name, content)


def _any_json(random, depth=0):
    parts = ('"dtype": "F32"', '"shape": [2, 2]', '"shape": [-1]', '"data_offsets": [0, 16]', '"data_offsets": [0, 1e99]',
             '"shape": ["a"]', '"x": null', '"dtype": 3', '"shape": [99999999999999999999]')
    names = ("image_proj.latents", "ip_adapter.1.to_k_ip.weight", "", "__metadata__", "image_proj.proj_in.weight")
    entries = [f'"{random.choice(names)}": {{{", ".join(random.sample(parts, random.randrange(5)))}}}' for _ in range(4)]
    return random.choice((", ".join(entries) + "}", "[" * 10_000, '"a": ' * 1000, "}", '"a": 3}'))


def network(random, folder):
    """A folder of face networks, listed, told apart, opened, and run on a picture."""
    package = folder / "insightface" / "models" / "antelopev2"
    shutil.rmtree(folder / "insightface", ignore_errors=True)
    package.mkdir(parents=True)
    sources = {"detector.onnx": environment.FACE_MODELS / random.choice(("scrfd_500m_bnkps.onnx", "det_500m.onnx")),
               random.choice(("embedder.onnx", "glintr100.onnx")): environment.FACE_MODELS / "w600k_mbf.onnx"}
    victim = random.choice(list(sources))
    for name, source in sources.items():
        if name != victim:
            os.link(source, package / name)
    path = package / victim
    kind = random.choice(("cut off", "cut off", "noise", "another network", "no file"))
    if kind == "cut off":
        content = sources[victim].read_bytes()
        path.write_bytes(content[:random.randrange(len(content))])
    elif kind == "noise":
        path.write_bytes(random.choice((random.randbytes(5000), b"\xff" * 1_000_000, bytes(3_000_000), b"", b"\x3a")))
    elif kind == "another network":
        os.link(environment.FACE_MODELS / "2d106det.onnx", path)
    else:
        random.choice((path.mkdir, lambda: path.symlink_to(folder / "nowhere")))()
    caches.clear()
    roots = [str(folder / "insightface")]
    faces.state_of_networks(roots)
    analysis = faces.open_face_analysis(roots, "CPU")
    faces.reference_embeddings(analysis, fx.portrait("a"))


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
