"""The servers of a run: where each can be reached, and how it has behaved."""
import asyncio
import time
from dataclasses import dataclass, field

from bulk.running.progress import Progress

SET_ASIDE_AFTER = 3         # failures in a row
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, ..., at most five minutes."""
    return min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)


@dataclass
class ServerState:
    """A server. worker: the address of the Dask worker that belongs to it, None while there is none.

    problem: why it cannot be used; unfit: because it cannot run this workflow. gone: set when the worker has been lost; a new
    worker gets a new event.
    """

    name: str
    worker: str | None = None
    version: str = ""
    problem: str = ""
    unfit: bool = False
    failures_in_row: int = 0
    not_before: float = 0.0
    done: int = 0
    failed: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def set_aside(self) -> bool:
        return self.failures_in_row >= SET_ASIDE_AFTER

    @property
    def hopeless(self) -> bool:
        """Whether nothing is to be expected of it soon."""
        return self.worker is None or bool(self.problem) or self.set_aside

    @property
    def usable(self) -> bool:
        """Whether it may get a job now."""
        return self.worker is not None and not self.problem and time.monotonic() >= self.not_before

    def connected(self, worker: str) -> None:
        self.worker, self.gone = worker, asyncio.Event()

    def disconnected(self) -> None:
        self.worker = None
        self.gone.set()

    def succeeded(self) -> None:
        self.failures_in_row = 0

    def has_failed(self, message: str, progress: Progress) -> None:
        """Notes a failure; the server rests for a while, and is set aside after several in a row."""
        self.failed += 1
        self.failures_in_row += 1
        self.not_before = time.monotonic() + pause_after(self.failures_in_row)
        progress.failed(self.name)
        if self.failures_in_row == SET_ASIDE_AFTER:
            progress.say(f"{self.name} has failed {SET_ASIDE_AFTER} times in a row and is set aside; it is asked again from "
                         f"time to time. The last reason: {message}")
