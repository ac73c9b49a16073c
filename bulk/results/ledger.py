"""The ledger of a run: one append-only file of JSON lines, from which an interrupted run goes on.

Each line has `time` (seconds since 1970), `id` (the job's) and `event`:

    submitted   the job was handed to `server`; `attempt` counts from 1
    failed      this attempt failed for a reason outside of the job: `reason`, `message`, `server`
    done        the pictures `files` are written; `server`, `seconds` on the server, `values`, `person`, maybe `likeness`
    refused     the workflow refused the job: `message`; not tried again
    given up    every attempt failed: `message` of the last one

A job is done if and only if its picture is there: the picture is renamed into place first, the line follows.
"""
import errno
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bulk import BulkError, unwritable
from bulk.jobs.plan import Job
from bulk.results.pictures import RESULTS

NAME = "ledger.jsonl"
KEPT_DURATIONS = 1000       # of the last jobs, for the estimate


@dataclass
class Standing:
    """How the jobs of a plan stand. Whatever else the ledger knows is passed over.

    jobs: the plan's, by id. done: ids of those whose picture is there. open: {id: server} of those that were submitted and
    have not ended. ended_badly: {id: (event, message)} of those that were refused or given up. seconds: of the last jobs.
    servers: {server: [jobs done, seconds, attempts failed]}.
    """

    jobs: dict[str, Job]
    done: set[str] = field(default_factory=set)
    open: dict[str, str] = field(default_factory=dict)
    ended_badly: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: deque = field(default_factory=lambda: deque(maxlen=KEPT_DURATIONS))
    servers: dict[str, list] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """The number of jobs that have not ended."""
        return len(self.jobs) - len(self.done) - len(self.ended_badly)

    @property
    def without_picture(self) -> list[tuple[Job, str, str]]:
        """(job, event, message) of the jobs that were refused or given up, in the order of the rows."""
        return [(job, *self.ended_badly[name]) for name, job in self.jobs.items() if name in self.ended_badly]

    def add(self, line: dict) -> None:
        job, event = line["id"], line["event"]
        if job not in self.jobs:
            return
        of_server = self.servers.setdefault(line["server"], [0, 0.0, 0]) if line.get("server") else [0, 0.0, 0]
        if event == "failed":
            of_server[2] += 1
            return
        self.ended_badly.pop(job, None)
        self.open.pop(job, None)
        if event == "submitted":
            self.open[job] = line["server"]
        elif event == "done":
            self.done.add(job)
            of_server[0] += 1
            of_server[1] += line.get("seconds", 0.0)
            if "seconds" in line:
                self.seconds.append(line["seconds"])
        else:
            self.ended_badly[job] = (event, line["message"])


def lines(path: Path) -> Iterator[dict]:
    """The ledger's lines in order. The last one is left out where a killed process wrote only a part of it."""
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise BulkError(f"{path} cannot be read: {error.strerror}. Is the setting output right?") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                content = json.loads(line)
                content["id"], content["event"]
            except (ValueError, KeyError, TypeError):
                raise BulkError(f"Line {number} of {path} is damaged. Delete that line and start again; "
                                "pictures that are there are not made again.") from None
            yield content


def standing(output: Path, jobs: dict[str, Job]) -> Standing:
    """How the jobs of a plan stand now, from the ledger and the pictures in an output folder."""
    found = Standing(jobs)
    for line in lines(output / NAME):
        found.add(line)
    there = {path.stem for path in (output / RESULTS).glob("*.png")}
    found.done = jobs.keys() & there
    found.ended_badly = {job: end for job, end in found.ended_badly.items() if job not in found.done}
    return found


class Ledger(AbstractContextManager):
    """The ledger of an output folder, open for adding lines. Only one process at a time may have it open."""

    def __init__(self, output: Path, jobs: dict[str, Job]):
        self.path = output / NAME
        try:
            (output / RESULTS).mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise unwritable(output, error) from error
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise BulkError(f"Another run writes to {output}. Wait for its end, or use another output folder.") from None
        self._file.truncate(self.path.read_bytes().rfind(b"\n") + 1)       # without what a killed process has left of a line
        self.standing = standing(output, jobs)

    def add(self, job: str, event: str, **content: object) -> None:
        """Adds one line, in one write, or none of it. Raises BulkError."""
        line = {"time": round(time.time(), 3), "id": job, "event": event, **content}
        content, before = json.dumps(line, ensure_ascii=False).encode() + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(content) < len(content):        # as much as there was room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(before)
            raise unwritable(self.path, error) from error
        self.standing.add(line)

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _lock(file) -> None:
    """Locks a file for this process, or raises OSError. The lock ends with the process, however it ends."""
    if os.name == "nt":
        import msvcrt
        file.seek(2 ** 30)      # a place beyond the content: Windows would keep others from reading a locked part
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
