"""One job on one server, exactly once: found where it runs or has run, queued where not, its pictures fetched."""
import asyncio
import json
import re
import time
from dataclasses import dataclass, field

from bulk.results.pictures import is_png
from bulk.servers.http import Refused, Server, Unreachable

FIRST_POLL, LONGEST_POLL = 0.05, 1.0    # seconds between two looks into the history
LOOK_INTO_QUEUE = 5.0                   # seconds until a prompt that is not in the history is looked for in the queue
UNREADABLE = "unreadable answer"
MEMORY = re.compile(r"out of memory|outofmemory|allocation on device|memoryerror|not enough memory", re.I)
DEVICE = re.compile(r"cuda error|cublas|cudnn|hip error|device-side assert|accelerator.?error|cuda driver", re.I)


@dataclass(frozen=True)
class Request:
    """What a worker needs for a job.

    id: of the job and of its prompt. files: {name: size} that the prompt uses. content: {name: bytes} of those that the
    server is known not to have. picture: the output node whose pictures count, or None for all. seconds: at most.
    """

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
    found: bool = False
    missing: list[str] = field(default_factory=list)


async def run(server: Server, request: Request) -> Outcome:
    """Runs a job to its end. Everything that can go wrong is an outcome."""
    try:
        missing = [name for name, size in request.files.items() if not await server.has_file(name, size)]
        lacking = [name for name in missing if name not in request.content]
        if lacking:
            return Outcome("needs files", missing=lacking)
        for name in missing:
            await server.upload(name, request.content[name])
        queued = await is_queued(server, request.id)
        entry = None if queued else await entry_of(server, request.id)
        found = queued or _succeeded(entry)
        if not found:
            if entry:       # what an earlier attempt has left would be taken for this one's end
                await server.post("/history", json={"delete": [request.id]})
            refusal = await queue(server, request)
            if refusal:
                return refusal
        entry = await wait(server, request)
        if isinstance(entry, Outcome):
            return entry
        outcome = await result(server, request, entry)
        outcome.found = found
        return outcome
    except (Unreachable, Refused) as error:
        return Outcome("failed", str(error), "no connection" if isinstance(error, Unreachable) else "server error")
    except Exception as error:      # whatever an answer may hold, it counts as an attempt of this job
        return Outcome("failed", f"{server.url} gave an answer that Bulk cannot read: {type(error).__name__}: {error}",
                       UNREADABLE)


async def is_queued(server: Server, prompt_id: str) -> bool:
    """Whether a prompt waits or runs."""
    queue = await server.get("/queue")
    return any(item[1] == prompt_id for part in ("queue_running", "queue_pending") for item in queue.get(part, ()))


async def entry_of(server: Server, prompt_id: str) -> dict | None:
    """What the history has of a prompt that has ended.

    Looking into the queue first and here second finds every prompt: from the queue it goes into the history.
    """
    return (await server.get(f"/history/{prompt_id}")).get(prompt_id)


def _succeeded(entry: dict | None) -> bool:
    return entry is not None and (entry.get("status") or {}).get("status_str") == "success"


async def queue(server: Server, request: Request) -> Outcome | None:
    """Queues a job's prompt. Returns an outcome where ComfyUI refuses it."""
    try:
        answer = await server.post("/prompt", json={"prompt": request.prompt, "prompt_id": request.id, "client_id": "bulk"})
    except Refused as error:
        if error.status == 400:
            return Outcome("refused", refusal(error.answer))
        raise
    if answer.get("prompt_id") != request.id:
        raise Unreachable(f"{server.url} does not take prompt ids: it needs a newer ComfyUI")
    if answer.get("node_errors"):       # ComfyUI would run the outputs that do not depend on them
        await cancel(server, request.id)
        return Outcome("refused", refusal(json.dumps(answer)))
    return None


async def cancel(server: Server, prompt_id: str) -> None:
    """Takes a prompt out of the queue, or stops it where it runs."""
    await server.post("/queue", json={"delete": [prompt_id]})
    await server.post("/interrupt", json={"prompt_id": prompt_id})


async def wait(server: Server, request: Request) -> dict | Outcome:
    """The history's entry when the prompt has ended."""
    start = looked = time.monotonic()
    pause = FIRST_POLL
    while (now := time.monotonic()) - start < request.seconds:
        if entry := await entry_of(server, request.id):
            return entry
        if now - looked > LOOK_INTO_QUEUE:
            looked = now
            if not await is_queued(server, request.id):
                entry = await entry_of(server, request.id)
                return entry or Outcome("failed", f"{server.url} does not know the job any more; it was probably restarted",
                                        "lost by server")
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
    files = [file for node in sorted(outputs, key=_number) if request.picture in (None, node)
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


def _number(node: str) -> tuple:
    return (0, int(node), "") if node.isdecimal() else (1, 0, node)


def _failure(server: Server, data: dict) -> Outcome:
    """An error of a node: the server's trouble, or the job's own."""
    message = str(data.get("exception_message") or "The workflow failed, and ComfyUI did not say why.").strip()
    text = f"{data.get('exception_type', '')} {message}"
    if MEMORY.search(text):
        return Outcome("failed", f"{server.url}: {message}", "out of memory")
    if DEVICE.search(text):
        return Outcome("failed", f"{server.url}: {message}", "device error")
    place = f"{data['node_type']} (node {data['node_id']}): " if "node_id" in data else ""
    return Outcome("refused", place + message)


def refusal(answer: str) -> str:
    """ComfyUI's answer to a prompt that it does not accept, as one sentence."""
    try:
        content = json.loads(answer)
        for node, found in (content.get("node_errors") or {}).items():
            texts = (" ".join(filter(None, (error["message"], error.get("details")))) for error in found["errors"])
            return f"{found['class_type']} (node {node}): {'; '.join(texts)}"
        error = content["error"]
        return error if isinstance(error, str) else " ".join(filter(None, (error["message"], error.get("details"))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer[:500]


def likeness(prompt: dict, outputs: dict) -> float | None:
    """The highest number that a Likeness node shows, a cosine from -1 to 1; None where there is none."""
    for node, output in outputs.items():
        if "Likeness" not in prompt.get(node, {}).get("class_type", ""):
            continue
        numbers = [value for value in output.get("likeness", ()) if isinstance(value, int | float)]
        shown = " ".join(map(str, output.get("text", ())))
        numbers = numbers or [float(text) for text in re.findall(r"-?[01]\.\d+", shown)]
        if numbers:
            return max(numbers)
    return None
