"""A server that answers as ComfyUI does and computes nothing: a prompt takes a given time, its picture is always the same."""
import asyncio
import io
import multiprocessing
import random
import time
from multiprocessing.connection import Connection

from aiohttp import web
from PIL import Image

LOOPBACK = "127.0.0.1"
HISTORY = 10000         # as many as ComfyUI keeps


def grey_png() -> bytes:
    """A PNG of one pixel."""
    file = io.BytesIO()
    Image.new("L", (1, 1), 128).save(file, "PNG")
    return file.getvalue()


class StandIn:
    """One server. samples: seconds that a prompt takes, drawn at random. entries: {text: history entry of a prompt with this
    text in it}, in place of the usual picture."""

    def __init__(self, samples: list[float], info: dict, entries: dict[str, object]):
        self.samples, self.info, self.entries = samples, info, entries
        self.draw = random.Random(0)
        self.computed, self.seconds = 0, 0.0
        self.files: dict[str, int] = {}
        self.pending: dict[str, None] = {}      # ids of prompts; the first one is running
        self.history: dict[str, object] = {}
        self.picture = grey_png()

    async def start(self) -> str:
        """Starts the server; returns its address."""
        app = web.Application(client_max_size=2 ** 26)
        app.add_routes([web.get("/view", self.view), web.post("/upload/image", self.upload), web.post("/prompt", self.prompt),
                        web.get("/{kind:history|object_info}/{name}", self.one), web.get("/queue", self.queue),
                        web.get("/system_stats", self.system_stats), web.post("/{kind:history|queue|interrupt}", self.change)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        self.texts: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.work = asyncio.create_task(self.compute())
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"

    async def compute(self) -> None:
        while True:
            prompt, text = await self.texts.get()
            start, seconds = time.time(), self.draw.choice(self.samples)
            await asyncio.sleep(seconds)
            self.computed += 1
            self.seconds += seconds
            times = [["execution_start", {"timestamp": start * 1000}], ["execution_success", {"timestamp": time.time() * 1000}]]
            self.history[prompt] = next((entry for found, entry in self.entries.items() if found in text), {
                "outputs": {"9": {"images": [{"filename": "p.png", "subfolder": "", "type": "output"}]}},
                "status": {"status_str": "success", "messages": times}})
            if len(self.history) > HISTORY:
                self.history.pop(next(iter(self.history)))
            del self.pending[prompt]

    async def view(self, request: web.Request) -> web.Response:
        if request.query["type"] == "output":
            return web.Response(body=self.picture)
        size = self.files.get(request.query["filename"])
        return web.Response(status=404) if size is None else web.Response(body=bytes(size))

    async def upload(self, request: web.Request) -> web.Response:
        field = (await request.post())["image"]
        self.files[field.filename] = len(field.file.read())
        return web.json_response({"name": field.filename, "subfolder": "", "type": "input"})

    async def prompt(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt_id"]
        self.pending[prompt] = None
        self.texts.put_nowait((prompt, await request.text()))
        return web.json_response({"prompt_id": prompt, "number": 1, "node_errors": {}})

    async def one(self, request: web.Request) -> web.Response:
        """An entry of the history, or the description of a node class."""
        name, table = request.match_info["name"], self.history if request.match_info["kind"] == "history" else self.info
        return web.json_response({name: table[name]} if name in table else {})

    async def queue(self, request: web.Request) -> web.Response:
        return web.json_response({"queue_running": [], "queue_pending": [[0, prompt] for prompt in self.pending]})

    async def system_stats(self, request: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "stand-in"}})

    async def change(self, request: web.Request) -> web.Response:
        if request.match_info["kind"] == "history":
            for prompt in (await request.json())["delete"]:
                self.history.pop(prompt, None)
        return web.Response()


class StandIns:
    """So many servers in a process of their own, used as a context manager. samples, info, entries: as in StandIn."""

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


def _serve(pipe: Connection, count: int, *properties: object) -> None:
    """The process of StandIns: starts its servers, then answers questions until it is killed."""
    servers = [StandIn(*properties) for _ in range(count)]

    async def run() -> None:
        pipe.send([await server.start() for server in servers])
        while True:
            await asyncio.to_thread(pipe.recv)
            pipe.send((sum(server.computed for server in servers), sum(server.seconds for server in servers)))
    asyncio.run(run())
