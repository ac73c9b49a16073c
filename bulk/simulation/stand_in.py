"""A server that answers as ComfyUI does and computes nothing: a prompt takes a given time, its picture is always the same.

A hundred of them need one process and one thread.
"""
import asyncio
import json
import multiprocessing
import random
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
HISTORY = 10000         # as many as ComfyUI keeps


def grey_png() -> bytes:
    """A PNG of one pixel."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b""))


class StandIn:
    """One server. latency: called for each prompt, returns the seconds it takes. entries: {text: what the history has of a
    prompt with this text in it}, where it is not a picture."""

    def __init__(self, latency: Callable[[], float], info: dict, entries: dict[str, object]):
        self.latency, self.info, self.entries = latency, info, entries
        self.computed, self.seconds = 0, 0.0
        self.files: dict[str, int] = {}
        self._pending: deque[str] = deque()
        self._texts: dict[str, str] = {}
        self._running: str | None = None
        self._history: dict[str, dict] = {}
        self._work: asyncio.Task | None = None
        self.address = ""

    async def start(self) -> None:
        server = await asyncio.start_server(self._connection, LOOPBACK, 0)
        self.address = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

    async def _compute(self) -> None:
        while self._pending:
            self._running = self._pending.popleft()
            start = time.time()
            seconds = self.latency()
            if seconds:
                await asyncio.sleep(seconds)
            self.computed += 1
            self.seconds += seconds
            times = [["execution_start", {"timestamp": start * 1000}], ["execution_success", {"timestamp": time.time() * 1000}]]
            text = self._texts.pop(self._running)
            odd = [entry for found, entry in self.entries.items() if found in text]
            self._history[self._running] = odd[0] if odd else {
                "outputs": {"9": {"images": [{"filename": "p.png", "subfolder": "", "type": "output"}]}},
                "status": {"status_str": "success", "messages": times}}
            if len(self._history) > HISTORY:
                self._history.pop(next(iter(self._history)))
            self._running = None

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request after the other, until the client closes the connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, kind, content = self._answer(method, target, body)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                             + (b"" if method == "HEAD" else content))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, target: str, body: bytes) -> tuple[int, str, bytes]:
        parts = urlsplit(target)
        path, query = parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}
        if path == "/view" and query.get("type") == "input":
            size = self.files.get(query["filename"])
            return (404, "text/plain", b"") if size is None else (200, "image/png", bytes(size))
        if path == "/view":
            return 200, "image/png", grey_png()
        if path == "/upload/image":
            name, content = _uploaded(body)
            self.files[name] = len(content)
            return _json({"name": name, "subfolder": "", "type": "input"})
        return _json(self._object(method, path, body))

    def _object(self, method: str, path: str, body: bytes) -> dict:
        if path.startswith("/history/"):
            found = path.rpartition("/")[2]
            return {found: self._history[found]} if found in self._history else {}
        if path.startswith("/object_info/"):
            found = path.rpartition("/")[2]
            return {found: self.info[found]} if found in self.info else {}
        if path == "/queue" and method == "GET":
            return {"queue_running": [[0, self._running]] if self._running else [],
                    "queue_pending": [[0, prompt] for prompt in self._pending]}
        if path == "/prompt":
            prompt = json.loads(body)["prompt_id"]
            self._pending.append(prompt)
            self._texts[prompt] = body.decode()
            if self._work is None or self._work.done():
                self._work = asyncio.create_task(self._compute())
            return {"prompt_id": prompt, "number": 1, "node_errors": {}}
        if path == "/history":
            for prompt in json.loads(body).get("delete", ()):
                self._history.pop(prompt, None)
        return {"system": {"comfyui_version": "stand-in"}}


def _uploaded(body: bytes) -> tuple[str, bytes]:
    """Name and content of the last part of a form."""
    head, content = body.split(b'filename="', 1)[1].split(b"\r\n\r\n", 1)
    boundary = body.split(b"\r\n", 1)[0]
    return head.split(b'"', 1)[0].decode(), content.rsplit(b"\r\n" + boundary, 1)[0]


def _json(content: dict) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(content).encode()


class StandIns:
    """So many servers in a process of their own, used as a context manager. samples: seconds of a prompt, drawn at random."""

    def __init__(self, count: int, samples: list[float], info: dict, entries: dict[str, object] | None = None):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, count, samples, info, entries or {}), daemon=True)

    def __enter__(self) -> "StandIns":
        self._process.start()
        self.addresses: list[str] = self._pipe.recv()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def computed(self) -> tuple[int, float]:
        """How many prompts all of them have computed, and the seconds these took."""
        self._pipe.send("computed")
        return self._pipe.recv()


def _serve(pipe: Connection, count: int, samples: list[float], info: dict, entries: dict[str, object]) -> None:
    """The process of StandIns: starts its servers, then answers questions until it is killed."""
    draw = random.Random(count)
    servers = [StandIn(lambda: draw.choice(samples), info, entries) for _ in range(count)]

    async def run() -> None:
        for server in servers:
            await server.start()
        pipe.send([server.address for server in servers])
        while True:
            await asyncio.to_thread(pipe.recv)
            pipe.send((sum(server.computed for server in servers), sum(server.seconds for server in servers)))
    asyncio.run(run())
