"""A job's pictures on disk: <id>.png, further ones as <id>_2.png, and so on.

Each file is written under another name and then renamed, the first picture last. So a job's <id>.png is there exactly when
all of its pictures are whole. It carries the job's line of the ledger in a text chunk named "bulk", beside ComfyUI's own.
"""
import contextlib
import io
import json
import os
from pathlib import Path

from bulk import unwritable
from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = "bulk"
RESULTS = "results"         # the folder of pictures inside the output folder


def save(folder: Path, job: str, pictures: list[bytes], content: dict) -> list[str]:
    """Writes a job's pictures; returns the names of the files. content: what the first picture carries, JSON values."""
    names = [f"{job}.png", *(f"{job}_{number}.png" for number in range(2, len(pictures) + 1))]
    first = with_text(pictures[0], json.dumps({**content, "files": names}))
    for name, picture in reversed(list(zip(names, [first, *pictures[1:]], strict=True))):
        write(folder / name, picture)
    return names


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all. Raises BulkError."""
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritable(path, error) from error


def is_png(content: bytes) -> bool:
    """Whether a PNG is there from its first to its last chunk."""
    return content.startswith(SIGNATURE) and content[-8:-4] == b"IEND"


def with_text(picture: bytes, text: str) -> bytes:
    """A PNG with one more text chunk before its end. Its pixels are not encoded again."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEYWORD, text)
    end = io.BytesIO()
    for kind, content, *_ in info.chunks:
        PngImagePlugin.putchunk(end, kind, content)
    return picture[:-12] + end.getvalue() + picture[-12:]


def text_of(path: Path) -> dict:
    """The content that `save` has put into a picture; {} where there is none."""
    with Image.open(path) as picture:
        return json.loads(picture.text.get(KEYWORD, "{}"))
