"""One job on one server, exactly once: found where it runs or has run, queued where not, its pictures fetched."""
import asyncio
import json
import re
import time
from dataclasses import dataclass, field

from bulk.results.pictures import is_png
from bulk.servers.http import Server, ServerError

FIRST_POLL, LONGEST_POLL = 0.05, 1.0    # seconds between two looks into the history
LOOK_INTO_QUEUE = 5.0                   # seconds until a prompt that is not in the history is looked for in the queue
UNREADABLE = "unreadable answer"
TROUBLES = {        # of a server, in what a node says
    "out of memory": re.compile(r"out of memory|outofmemory|allocation on device|memoryerror|not enough memory", re.I),
    "device error": re.compile(r"cuda error|cublas|cudnn|hip error|device-side assert|accelerator.?error|cuda driver", re.I)}


@dataclass(frozen=True)
class Request:
    """What a worker needs for a job. files: {name: size} that the prompt uses. content: {name: bytes} of those that the server
    lacks. picture: the output node whose pictures count, or None for all. seconds: until it is late."""

    id: str
    prompt: dict
    files: dict[str, int]
    content: dict[str, bytes] = field(default_factory=dict)
    picture: str | None = None
    seconds: float = 3600


@dataclass
class Outcome:
    """What came of a request.

    kind: "done", with pictures (PNG); "refused" by the workflow, for good; "failed" for a reason outside of the job;
    "needs files", with the missing names. reason: of a failure, in one or two words. seconds: that the server computed.
    found: the prompt had been queued before.
    """

    kind: str
    message: str = ""
    reason: str = ""
    pictures: list[bytes] = field(default_factory=list)
    likeness: float | None = None
    seconds: float | None = None
    found: bool | None = None
    missing: list[str] = field(default_factory=list)


async def run(server: Server, request: Request) -> Outcome:
    """Runs a job to its end. Everything that can go wrong is an outcome."""
    try:
        missing = [name for name, size in request.files.items() if not await server.has_file(name, size)]
        if missing and not request.content:
            return Outcome("needs files", missing=missing)
        for name in missing:
            await server.upload(name, request.content[name])
        queued = await is_queued(server, request.id)
        entry = None if queued else await entry_of(server, request.id)
        found = queued or bool(entry and entry["status"]["status_str"] == "success")
        if not found:
            if entry:       # what an earlier attempt has left would be taken for this one's end
                await server.json("POST", "/history", json={"delete": [request.id]})
            refusal = await queue(server, request)
            if refusal:
                return refusal
        outcome = await wait(server, request)
        outcome.found = found or None
        return outcome
    except ServerError as error:
        return Outcome("failed", str(error), "server error" if error.status else "no connection")
    except Exception as error:      # whatever an answer may hold, it counts as an attempt of this job
        return Outcome("failed", f"{server.url} gave an answer that Bulk cannot read: {type(error).__name__}: {error}",
                       UNREADABLE)


async def is_queued(server: Server, prompt_id: str) -> bool:
    """Whether a prompt waits or runs."""
    queue = await server.json("GET", "/queue")
    return any(item[1] == prompt_id for part in ("queue_running", "queue_pending") for item in queue.get(part, ()))


async def entry_of(server: Server, prompt_id: str) -> dict | None:
    """What the history has of a prompt that has ended.

    Looking into the queue first and here second finds every prompt: from the queue it goes into the history.
    """
    return (await server.json("GET", f"/history/{prompt_id}")).get(prompt_id)


async def queue(server: Server, request: Request) -> Outcome | None:
    """Queues a job's prompt. Returns an outcome where ComfyUI refuses it."""
    try:
        wanted = {"prompt": request.prompt, "prompt_id": request.id, "client_id": "bulk"}
        answer = await server.json("POST", "/prompt", json=wanted)
    except ServerError as error:
        if error.status == 400:
            return Outcome("refused", refusal(error.answer))
        raise
    if answer.get("prompt_id") != request.id:
        raise ServerError(f"{server.url} does not take prompt ids: it needs a newer ComfyUI")
    if answer.get("node_errors"):       # ComfyUI would run the outputs that do not depend on them
        await cancel(server, request.id)
        return Outcome("refused", refusal(json.dumps(answer)))
    return None


async def cancel(server: Server, prompt_id: str) -> None:
    """Takes a prompt out of the queue, or stops it where it runs."""
    await server.json("POST", "/queue", json={"delete": [prompt_id]})
    await server.json("POST", "/interrupt", json={"prompt_id": prompt_id})


async def wait(server: Server, request: Request) -> Outcome:
    """The outcome of a prompt when it has ended."""
    end, pause, look = time.monotonic() + request.seconds, FIRST_POLL, time.monotonic() + LOOK_INTO_QUEUE
    while (now := time.monotonic()) < end:
        lost = now > look and not await is_queued(server, request.id)
        if entry := await entry_of(server, request.id):
            return await result(server, request, entry)
        if lost:
            return Outcome("failed", f"{server.url} does not know the job any more; was it restarted?", "lost by server")
        look = now + LOOK_INTO_QUEUE if now > look else look
        await asyncio.sleep(pause)
        pause = min(pause * 1.3, LONGEST_POLL)
    await cancel(server, request.id)
    return Outcome("failed", f"{server.url} did not finish the job within {request.seconds:.0f} s", "timeout")


async def result(server: Server, request: Request, entry: dict) -> Outcome:
    """The outcome of a prompt that has ended."""
    status = entry.get("status") or {}
    messages = {kind: data for kind, data in status.get("messages", ())}
    if "execution_interrupted" in messages:
        return Outcome("failed", f"the job was interrupted on {server.url}", "interrupted")
    if "execution_error" in messages or status.get("status_str") == "error":
        return _failure(server, messages.get("execution_error", {}))
    outputs = entry.get("outputs", {})
    files = [file for node in sorted(outputs, key=lambda node: (len(node), node)) if request.picture in (None, node)
             for file in outputs[node].get("images", ()) if file.get("type") == "output"]
    if not files:
        return Outcome("refused", "The workflow wrote no picture into the output folder. Use Save Image, and name its node in "
                                  "the setting picture if there are several.")
    pictures = [await server.file(file) for file in files]
    if not all(map(is_png, pictures)):
        return Outcome("refused", f"{files[0].get('filename')} is not a whole PNG picture. Use ComfyUI's Save Image.")
    times = [messages.get(kind, {}).get("timestamp") for kind in ("execution_start", "execution_success")]
    seconds = (times[1] - times[0]) / 1000 if None not in times else None
    return Outcome("done", pictures=pictures, seconds=seconds, likeness=likeness(request.prompt, outputs))


def _failure(server: Server, data: dict) -> Outcome:
    """An error of a node: the server's trouble, or the job's own."""
    message = str(data.get("exception_message") or "The workflow failed, and ComfyUI did not say why.").strip()
    for trouble, pattern in TROUBLES.items():
        if pattern.search(f"{data.get('exception_type', '')} {message}"):
            return Outcome("failed", f"{server.url}: {message}", trouble)
    place = f"{data['node_type']} (node {data['node_id']}): " if "node_id" in data else ""
    return Outcome("refused", place + message)


def refusal(answer: str) -> str:
    """ComfyUI's answer to a prompt that it does not accept, as one sentence."""
    try:
        content = json.loads(answer)
        for node, found in (content.get("node_errors") or {}).items():
            return f"{found['class_type']} (node {node}): {'; '.join(map(_sentence, found['errors']))}"
        return _sentence(content["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer[:500]


def _sentence(error: dict | str) -> str:
    return error if isinstance(error, str) else " ".join(filter(None, (error["message"], error.get("details"))))


def likeness(prompt: dict, outputs: dict) -> float | None:
    """The highest number that a Likeness node shows, a cosine from -1 to 1; None where there is none."""
    shown = [str(text) for node, output in outputs.items() if "Likeness" in prompt.get(node, {}).get("class_type", "")
             for text in output.get("text", ())]
    return max(map(float, re.findall(r"-?[01]\.\d+", " ".join(shown))), default=None)
