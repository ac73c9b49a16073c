"""Starts a real ComfyUI server with this checkout as a custom node, for the demo, the server tests and a benchmark.

    with Server(environment.comfyui("0.30.0")) as server:
        server.client.object_info()

The server runs headless on a free port of this machine. It gets folders of its own for input, output, user data and
temporary files, and finds the checkout through a search-path file, so that nothing is written into the ComfyUI used. The
benchmark has it use another pack instead.
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import environment  # noqa: E402
from serving.client import Client, ClientError

PACK = "InstantID-Swift"        # the checkout's name among the custom nodes
DEMO_NODES = environment.CHECKOUT / "dev" / "demo_nodes"
LOG_LINES = 25          # of the server's log in an error message
NOT_COPIED = (".dev", ".git", "demo-output", "__pycache__")     # where a link is not possible

# ComfyUI refuses to start without --cpu where torch finds no device
DEVICE_CHECK = """
import torch
backends = [torch.cuda, torch.backends.mps, getattr(torch, "xpu", None)]
print("device" if any(b and b.is_available() for b in backends) else "cpu")
"""


class ServerError(Exception):
    """The server did not start, or ended. The message ends with the last lines of its log."""


class Server:
    """A ComfyUI server process, used as a context manager.

    root: the ComfyUI folder. python: its interpreter; None is the development environment's, where ComfyUI needs
    runtime.prepare(). models: a folder of model folders to be added to its own (instantid, insightface); None: nothing.
    cpu: None finds out whether there is another device. arguments: further ones for ComfyUI. log: the file that gets
    its output. pack: the folder of the pack in use; None is this checkout. before, after: folders of further packs, which
    ComfyUI imports before that one or after it.
    """

    def __init__(self, root: Path, python: Path | None = None, *, models: Path | None = environment.MODELS,
                 cpu: bool | None = None, arguments: tuple[str, ...] = (), log: Path | None = None,
                 pack: Path | None = None, before: tuple[Path, ...] = (), after: tuple[Path, ...] = ()):
        self.root, self.python, self.models = Path(root).resolve(), python, models
        # ComfyUI imports one folder of packs after the other; inside of a folder the order is the file system's
        self.packs = {"packs_before": {folder.name: folder for folder in before},
                      "custom_nodes": {pack.name if pack else PACK: pack or environment.CHECKOUT,
                                       "instantid_demo_nodes": DEMO_NODES},
                      "packs_after": {folder.name: folder for folder in after}}
        self.cpu, self.arguments = cpu, arguments
        self.log = Path(log or environment.ROOT / "server.log")
        self.process: subprocess.Popen | None = None
        self.client: Client | None = None
        self._scratch: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "Server":
        self._scratch = tempfile.TemporaryDirectory(prefix="instantid-swift-", ignore_cleanup_errors=True)
        try:
            self._start(Path(self._scratch.name))
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def output(self) -> Path:
        """Where the server's output nodes write."""
        return Path(self._scratch.name) / "output"

    def stop(self) -> None:
        """End the process and remove its folders. Harmless when it has ended already."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process is not None and self.process.stdin:
            self.process.stdin.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def last_words(self) -> str:
        """The end of the server's log."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "It left no log."
        return "\n".join([f"The end of {self.log}:", *("    " + line for line in lines[-LOG_LINES:])])

    def _start(self, scratch: Path) -> None:
        for name in ("input", "output", "user", "temp", *self.packs):
            (scratch / name).mkdir()
        for folder, packs in self.packs.items():
            for name, target in packs.items():
                link(scratch / folder / name, target)
        paths = write_search_paths(scratch / "paths.yaml", [scratch / folder for folder in self.packs], self.models)
        own = self.python is None
        python = environment.PYTHON if own else self.python
        cpu = needs_cpu(python) if self.cpu is None else self.cpu
        start = [Path(__file__).with_name("launch.py"), "--end-with-parent", self.root] if own \
            else [self.root / "main.py"]
        port = free_port()
        command = [python, *start, "--listen", "127.0.0.1", "--port", port, "--disable-auto-launch",
                   "--disable-api-nodes", "--disable-all-custom-nodes", "--whitelist-custom-nodes",
                   *(name for packs in self.packs.values() for name in packs),
                   "--extra-model-paths-config", paths, "--input-directory", scratch / "input",
                   "--output-directory", scratch / "output", "--user-directory", scratch / "user",
                   "--temp-directory", scratch / "temp", "--database-url", "sqlite:///:memory:",
                   *(["--cpu"] if cpu else []), *self.arguments]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "w", encoding="utf-8") as log:
            variables = {**(environment.small_networks() if own else os.environ), "PYTHONUNBUFFERED": "1",
                         "PYTHONIOENCODING": "utf-8", "INSTANTID_CHECKOUT": str(environment.CHECKOUT)}
            self.process = subprocess.Popen([str(word) for word in command], cwd=self.root, env=variables,
                                            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        self.client = Client(f"127.0.0.1:{port}", on_lost=self._reason)

    def _reason(self) -> str:
        time.sleep(0.5)                     # a connection breaks a moment before the process has ended
        if self.process.poll() is None:
            return "The server process is still running."
        return f"The server ended with exit code {self.process.returncode}. {self.last_words()}"

    def _wait(self, patience: float = 300) -> None:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI did not start: exit code {self.process.returncode}. {self.last_words()}")
            try:
                self.client.request("/system_stats", timeout=5)
                return
            except ClientError:
                time.sleep(0.2)
        raise ServerError(f"ComfyUI did not answer within {patience:.0f} s. {self.last_words()}")


def write_search_paths(path: Path, custom_nodes: list[Path], models: Path | None) -> Path:
    """ComfyUI's extra_model_paths.yaml: folders of custom nodes, in the order in which they are read, and model folders."""
    lines = ["nodes:", "  custom_nodes: |", *(f"    {folder}" for folder in custom_nodes)]
    if models:
        lines += ["models:", f"  base_path: {quoted(models)}", "  instantid: instantid", "  insightface: insightface"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def quoted(path: Path) -> str:
    """A YAML string that means exactly this path."""
    return "'" + str(path).replace("'", "''") + "'"


def link(path: Path, target: Path) -> None:
    """A link to a folder; a copy where links are not allowed."""
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        shutil.copytree(target, path, ignore=shutil.ignore_patterns(*NOT_COPIED))


def needs_cpu(python: Path) -> bool:
    """Whether the torch of an interpreter finds nothing but the CPU."""
    found = subprocess.run([str(python), "-c", DEVICE_CHECK], capture_output=True, text=True)
    if found.returncode:
        why = (found.stderr.strip().splitlines() or ["no output"])[-1]
        raise ServerError(f"{python} cannot use torch ({why}). Is it the interpreter that runs this ComfyUI?")
    return found.stdout.split()[-1] == "cpu"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    """Start a server of the development environment and keep it until Ctrl-C: python dev/serving/server.py [version]."""
    environment.ensure()
    with Server(environment.comfyui(*sys.argv[1:2])) as server:
        print(f"ComfyUI runs at http://{server.client.address} (log: {server.log}); Ctrl-C ends it.", flush=True)
        try:
            server.process.wait()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
