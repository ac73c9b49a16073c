"""Stand-ins of ComfyUI servers, which compute nothing, for tests and for trying a cluster."""
import asyncio
import io
import multiprocessing
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from aiohttp import web
from bulk.jobs.plan import Plan
from bulk.jobs.settings import Settings
from bulk.jobs.workflow import Workflow
from PIL import Image

LOOPBACK = "127.0.0.1"
WORKFLOW = {"1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
            "3": {"class_type": "KSampler", "inputs": {"seed": 0, "latent_image": ["1", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "p"}}}
INFO = {"LoadImage": {"input": {"required": {"image": [["none.png"], {"image_upload": True}]}}},
        "KSampler": {"input": {"required": {"seed": ["INT", {}]}}},
        "SaveImage": {"input": {"required": {"filename_prefix": ["STRING", {}]}}, "output_node": True}}


def grey_png() -> bytes:
    """A PNG of one pixel."""
    file = io.BytesIO()
    Image.new("L", (1, 1), 128).save(file, "PNG")
    return file.getvalue()


class StandIn:
    """One server. computed: counts prompts. seconds: of each prompt. info: its /object_info. entries: {text: history entry of a
    prompt with this text in it}, in place of the usual picture."""

    def __init__(self, computed: Synchronized, seconds: float, info: dict, entries: dict[str, object]):
        self.computed, self.seconds, self.info, self.entries, self.picture = computed, seconds, info, entries, grey_png()
        self.files: dict[str, int] = {}
        self.pending: dict[str, None] = {}      # ids of prompts; the first one is running
        self.history: dict[str, object] = {}

    async def start(self) -> str:
        """Starts the server; returns its address."""
        self.texts: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.work = asyncio.create_task(self.compute())
        runner = web.ServerRunner(web.Server(self.answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"

    async def compute(self) -> None:
        while True:
            prompt, text = await self.texts.get()
            start = time.time() * 1000
            await asyncio.sleep(self.seconds)
            self.computed.value += 1
            times = [["execution_start", {"timestamp": start}], ["execution_success", {"timestamp": time.time() * 1000}]]
            self.history[prompt] = next((entry for found, entry in self.entries.items() if found in text), {
                "outputs": {"9": {"images": [{"filename": "p.png", "subfolder": "", "type": "output"}]}},
                "status": {"status_str": "success", "messages": times}})
            del self.pending[prompt]

    async def answer(self, request: web.BaseRequest) -> web.Response:
        found: dict[str, object] = {}
        match request.method, request.path.split("/")[1:]:
            case _, ["view"] if request.query["type"] == "output":
                return web.Response(body=self.picture)
            case _, ["view"]:
                size = self.files.get(request.query["filename"])
                return web.Response(status=404) if size is None else web.Response(body=bytes(size))
            case _, ["upload", "image"]:
                field = (await request.post())["image"]
                self.files[field.filename] = len(field.file.read())
                found = {"name": field.filename}
            case "POST", ["prompt"]:
                found = {"prompt_id": (await request.json())["prompt_id"]}
                self.pending[found["prompt_id"]] = None
                self.texts.put_nowait((found["prompt_id"], await request.text()))
            case _, ["history" | "object_info" as kind, name]:
                table = self.history if kind == "history" else self.info
                found = {name: table[name]} if name in table else {}
            case "POST", ["history"]:
                for name in (await request.json())["delete"]:
                    self.history.pop(name, None)
            case "GET", ["queue"]:
                found = {"queue_running": [], "queue_pending": [[0, name] for name in self.pending]}
        return web.json_response(found)


class StandIns:
    """So many servers in a process of their own, used as a context manager. seconds, info, entries: as in StandIn."""

    def __init__(self, count: int, seconds: float, info: dict = INFO, entries: dict[str, object] | None = None):
        context = multiprocessing.get_context("spawn")
        self.computed = context.Value("q")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, count, self.computed, seconds, info, entries or {}))

    def __enter__(self) -> "StandIns":
        self._process.start()
        self.addresses: list[str] = self._pipe.recv()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.join()

    kill = __exit__


def _serve(pipe: Connection, count: int, *properties: object) -> None:
    """The process of StandIns, which ends with the one that started it."""
    async def run() -> None:
        servers = [StandIn(*properties) for _ in range(count)]
        pipe.send([await server.start() for server in servers])
        await asyncio.to_thread(pipe.poll, None)
    asyncio.run(run())


def make_plan(folder: Path, people: int, jobs: int, urls: list[str]) -> Plan:
    """A plan of `jobs` jobs, about evenly among `people` photos."""
    (folder / "photos").mkdir()
    for number in range(people):
        (folder / "photos" / f"{number}.png").write_bytes(grey_png() + number.to_bytes(4, "big"))
    product = {"photo": {"folder": "photos"}, "seed": {"from": 1, "to": jobs // people}}
    settings = Settings(folder / "workflow.json", folder / "output", {"photo": "1.image"}, {"seed": "3.seed"}, product=product,
                        person=("photo",), servers=tuple(urls), dashboard=f"{LOOPBACK}:0", folder=folder)
    return Plan(settings, Workflow(WORKFLOW))
