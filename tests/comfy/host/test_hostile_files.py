"""Damaged and hostile files, made from a seed: nothing in them is executed, nothing is written, and none of them hangs."""

import faulthandler
import io
import os
import random
import shutil
import sys
import zipfile

import folder_paths
import pytest
import safetensors.torch
import torch
from instantid_swift import caches
from oracle import cases
from oracle import fixtures as fx

pytestmark = pytest.mark.newest
HANGS = 120  # seconds after which the process is ended, with a traceback
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "os.remove",
             "os.rename", "os.mkdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
seen = None  # what the audit hook reports, while a file is opened


def report(event, arguments):
    """An audit hook, which Python cannot take away again."""
    if seen is not None and (event in FORBIDDEN or event == "open" and (arguments[2] or 0) & WRITING):
        seen.append((event, arguments[:1]))


sys.addaudithook(report)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def damaged(chance, content):
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 5, 50))):
        start, length = chance.randrange(len(content) + 1), chance.choice((1, 4, 100))
        match chance.randrange(4):
            case 0:
                del content[start:]
            case 1:
                content[start:start + length] = chance.randbytes(length)
            case 2:
                content[start:start] = content[:length]
            case 3:
                del content[start:start + length]
    return bytes(content)


def damaged_record(chance, content):
    """A pickle's zip file with one record damaged, emptied or swollen, packed or not."""
    copied = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(
            copied, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as copy:
        victim = chance.choice(source.namelist())
        for name in source.namelist():
            record = source.read(name)
            copy.writestr(name, chance.choice((damaged(chance, record), b"", bytes(3_000_000))) if name == victim else record)
    return copied.getvalue()


def special(chance, path):
    """Makes a folder, a pipe or a broken link."""
    chance.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.parent / "nowhere")))()


@pytest.fixture
def opened():
    """opened(function): calls it, whatever it raises; what it did beyond reading must be nothing."""
    global seen
    faulthandler.dump_traceback_later(HANGS, exit=True)

    def opened(function):
        global seen
        caches.clear()
        seen = []
        try:
            function()
            return "taken"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            done, seen = seen, None
            assert done == []
    yield opened
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def small():
    """The tensors of an adapter, one number each."""
    return {part: {name: torch.zeros(1).expand(tensor.shape) for name, tensor in tensors.items()}
            for part, tensors in fx.instantid_checkpoint().items()}


def test_adapter_files(nodes, opened, small, tmp_path, monkeypatch):
    paths = ([str(tmp_path)], {".bin", ".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "instantid", paths)
    path, executed, chance = tmp_path / "adapter.bin", tmp_path / "executed", random.Random(0)
    whole = io.BytesIO()
    torch.save(small, whole)
    flat = safetensors.torch.save({f"{part}.{name}": tensor.flatten()[:2].clone() for part, tensors in small.items()
                                   for name, tensor in tensors.items()})

    def hostile():
        torch.save({**small, "image_proj": Hostile(executed)}, path, _use_new_zipfile_serialization=chance.random() < 0.5)
    kinds = (lambda: path.write_bytes(damaged(chance, whole.getvalue())), hostile, lambda: special(chance, path),
             lambda: path.write_bytes(damaged_record(chance, whole.getvalue())),
             lambda: path.write_bytes(damaged(chance, flat)),
             lambda: path.write_bytes(chance.randbytes(chance.choice((0, 1, 9, 5000)))))
    outcomes = set()
    for number in range(36):
        kinds[number % len(kinds)]()
        outcomes.add(opened(lambda: cases.call(nodes, "InstantIDModelLoader", instantid_file=path.name)))
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        assert os.listdir(tmp_path) == [], number
    assert len(outcomes) > 3


def test_face_networks(nodes, opened, face_root, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "insightface", ([str(tmp_path)], set()))
    package, chance = tmp_path / "models" / "antelopev2", random.Random(0)
    sources = [path for path in (face_root / "models" / "antelopev2").iterdir() if path.suffix == ".onnx"]
    outcomes = set()
    for number in range(8):
        shutil.copytree(face_root / "models" / "antelopev2", package)
        path = package / chance.choice(sources).name
        content = path.read_bytes()
        path.unlink()
        match number % 4:
            case 0:
                path.write_bytes(damaged(chance, content))
            case 1:  # where the description is, not the weights
                path.write_bytes(damaged(chance, content[:400]) + content[400:])
            case 2:  # in the weights, so that the network is opened and run
                middle = len(content) // 2
                path.write_bytes(content[:middle] + chance.randbytes(4000) + content[middle + 4000:])
            case 3:
                special(chance, path)
        names = sorted(os.listdir(package))

        def look():
            analysis, = cases.call(nodes, "InstantIDFaceAnalysis", provider="CPU")
            cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=analysis, image=fx.portrait("a"))
        outcomes.add(opened(look).partition(":")[0])
        assert sorted(os.listdir(package)) == names and os.listdir(tmp_path) == ["models"]
        shutil.rmtree(package)
    assert {"taken", "InstantIDError"} <= outcomes
