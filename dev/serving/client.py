"""A small client of a running ComfyUI: what is offered, uploads, queueing with live events, results.

Needs aiohttp, which every ComfyUI has.
"""
import asyncio
import json
import mimetypes
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ClientError(Exception):
    """The server did not answer, or refused a request."""


class PromptError(ClientError):
    """ComfyUI refused a workflow, or a node of it failed. Says which node and why."""

    def __init__(self, node_id: str | None, node_type: str | None, message: str, details: Any = None):
        place = f"Node {node_id} ({node_type}): " if node_id is not None else ""
        super().__init__(place + message)
        self.node_id, self.node_type, self.message, self.details = node_id, node_type, message, details


@dataclass
class Run:
    """What came of one queued workflow."""

    prompt_id: str
    events: list[tuple[float, str, dict]] = field(default_factory=list)     # (seconds since queued, type, data)
    seconds: dict[str, float] = field(default_factory=dict)     # per node that was executed; others came from the cache
    outputs: dict[str, dict] = field(default_factory=dict)      # per output node: {"images": [{"filename", ...}], ...}
    cached: list[str] = field(default_factory=list)             # nodes whose earlier results ComfyUI still had
    total: float = 0.0


class Client:
    """Talks to one server. on_lost: called where the connection breaks off, returns the reason if it is known."""

    def __init__(self, address: str, on_lost: Callable[[], str] = lambda: ""):
        self.address = address
        self.on_lost = on_lost
        self.client_id = uuid.uuid4().hex
        # a proxy of the environment must not be asked for this machine's own address
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    # ---- plain requests ----

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json",
                timeout: float = 60) -> bytes:
        """GET, or POST where there is a body. Raises ClientError, with the server's answer where there is one."""
        request = urllib.request.Request(f"http://{self.address}{path}", data=body,
                                         headers={"Content-Type": content_type} if body is not None else {})
        try:
            with self._open(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if path == "/prompt":
                raise refusal(text) from error
            raise ClientError(f"{path} answered {error.code}: {text[:500]}") from error
        except OSError as error:
            raise ClientError(f"{path} was not answered: {error}. {self.on_lost()}".strip()) from error

    def get(self, path: str, **query: str) -> Any:
        """JSON of a GET."""
        return json.loads(self.request(path + ("?" + urllib.parse.urlencode(query) if query else "")))

    def post(self, path: str, content: Any) -> Any:
        """JSON of a POST; None where the answer is empty."""
        answer = self.request(path, json.dumps(content).encode())
        return json.loads(answer) if answer else None

    def object_info(self, node: str = "") -> dict:
        """Description of all node classes, or of one."""
        return self.get("/object_info" + (f"/{urllib.parse.quote(node)}" if node else ""))

    def choices(self, node: str, widget: str) -> list[str]:
        """What a drop-down of a node offers."""
        inputs = self.object_info(node)[node]["input"]
        kind, *options = {**inputs.get("required", {}), **inputs.get("optional", {})}[widget]
        return kind if isinstance(kind, list) else options[0]["options"]      # old and new notation of ComfyUI

    def history(self, prompt_id: str) -> dict:
        """What ComfyUI keeps of a finished prompt."""
        return self.get(f"/history/{prompt_id}")[prompt_id]

    def upload_image(self, path: str | Path) -> str:
        """Put a picture into the server's input folder; returns the name for LoadImage."""
        path, boundary = Path(path), uuid.uuid4().hex
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = b"\r\n".join([
            f"--{boundary}".encode(), b'Content-Disposition: form-data; name="overwrite"', b"", b"true",
            f"--{boundary}".encode(),
            f'Content-Disposition: form-data; name="image"; filename="{path.name}"'.encode(),
            f"Content-Type: {kind}".encode(), b"", path.read_bytes(), f"--{boundary}--".encode(), b""])
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))["name"]

    def file(self, description: dict) -> bytes:
        """A file that an output node wrote; description: {"filename", "subfolder", "type"}."""
        return self.request("/view?" + urllib.parse.urlencode(description))

    # ---- queueing ----

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or stop it if it runs."""
        self.post("/queue", {"delete": [prompt_id]})
        self.post("/interrupt", {"prompt_id": prompt_id})

    def queue(self, workflow: dict, on_event: Callable[[str, dict], None] | None = None, timeout: float = 3600) -> Run:
        """Run a workflow (API form) to its end. on_event(type, data) sees each event of it as it comes.

        Raises PromptError where ComfyUI refuses the workflow or a node fails.
        """
        try:
            return asyncio.run(asyncio.wait_for(self._queue(workflow, on_event), timeout))
        except TimeoutError as error:
            raise ClientError(f"The workflow did not end within {timeout:.0f} s.") from error

    async def _queue(self, workflow: dict, on_event: Callable[[str, dict], None] | None) -> Run:
        import aiohttp
        try:
            async with aiohttp.ClientSession() as session:
                address = f"ws://{self.address}/ws?clientId={self.client_id}"
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    sent = {"prompt": workflow, "client_id": self.client_id}
                    answer = await asyncio.to_thread(self.post, "/prompt", sent)
                    if answer.get("node_errors"):       # ComfyUI would run the outputs that do not depend on them
                        await asyncio.to_thread(self.cancel, answer["prompt_id"])
                        raise refusal(json.dumps(answer))
                    return await self._follow(Run(answer["prompt_id"]), socket, on_event)
        except aiohttp.ClientError as error:
            raise ClientError(f"No connection to ComfyUI: {error}. {self.on_lost()}".strip()) from error

    async def _follow(self, run: Run, socket: Any, on_event: Callable[[str, dict], None] | None) -> Run:
        start = time.perf_counter()
        running, since = None, 0.0
        async for message in socket:
            if not isinstance(message.data, str):
                continue                        # binary: previews
            event = json.loads(message.data)
            kind, data = event["type"], event.get("data") or {}
            if data.get("prompt_id") != run.prompt_id:
                continue
            now = time.perf_counter() - start
            run.events.append((now, kind, data))
            if on_event:
                on_event(kind, data)
            if kind == "execution_cached":
                run.cached = data["nodes"]
            elif kind == "executed" and data.get("output"):
                run.outputs[data["node"]] = data["output"]
            elif kind == "execution_error":
                raise PromptError(data["node_id"], data["node_type"], data["exception_message"].strip(), data)
            elif kind == "execution_interrupted":
                raise PromptError(data["node_id"], data["node_type"], "interrupted", data)
            elif kind in ("executing", "execution_success"):
                if running is not None:         # one node runs until the next one is announced, or all are done
                    run.seconds[running] = run.seconds.get(running, 0.0) + now - since
                running, since = data.get("node"), now
                if kind == "execution_success":
                    run.total = now
                elif running is None:           # ComfyUI has tidied up after it
                    return run
        raise ClientError(f"ComfyUI closed the connection. {self.on_lost()}".strip())


def refusal(answer: str) -> PromptError:
    """ComfyUI's answer to a workflow that it does not accept, as one error: the first node's first complaint."""
    try:
        content = json.loads(answer)
        for node_id, found in (content.get("node_errors") or {}).items():
            texts = [" ".join(filter(None, (e["message"], e.get("details")))) for e in found["errors"]]
            return PromptError(node_id, found["class_type"], "; ".join(texts), content)
        error = content["error"]
        text = error if isinstance(error, str) else " ".join(filter(None, (error["message"], error.get("details"))))
        return PromptError(None, None, text, content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return PromptError(None, None, answer[:500])
