"""What the user sees while a run goes on: a bar with rate and time left, failures by server, and what happens."""
import sys
import time
from collections import Counter, deque
from typing import TextIO

from bulk.results.summary import duration

WIDTH = 24
RATE_SECONDS = 120.0        # over which the rate is taken
LINE_SECONDS = 10.0         # between two lines where the output is no terminal
REDRAW_SECONDS = 0.2


class Progress:
    """Counts ended jobs and shows them. total: of all jobs, those that ended in earlier runs included."""

    def __init__(self, total: int, stream: TextIO | None = None):
        self.total, self.ended = total, 0
        self.stream = stream or sys.stderr
        self.failures: Counter[str] = Counter()
        self._times: deque[float] = deque(maxlen=1000)
        self._start = self._drawn = time.monotonic()
        self._terminal = self.stream.isatty()

    def job_ended(self) -> None:
        self.ended += 1
        self._times.append(time.monotonic())
        self.draw()

    def failed(self, server: str) -> None:
        self.failures[server] += 1

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(("\r\033[K" if self._terminal else "") + text + "\n")
        self.draw(at_once=self._terminal)

    def rate(self) -> float:
        """Jobs per second, over the last two minutes."""
        now = time.monotonic()
        while self._times and now - self._times[0] > RATE_SECONDS:
            self._times.popleft()
        if not self._times:
            return 0.0
        # the window is full of measured jobs, or begins with the run
        since = self._times[0] if len(self._times) == self._times.maxlen else max(self._start, now - RATE_SECONDS)
        return len(self._times) / max(now - since, 1e-3)

    def line(self) -> str:
        share = min(1.0, self.ended / self.total) if self.total else 1.0
        filled = round(share * WIDTH)
        rate = self.rate()
        left = duration((self.total - self.ended) / rate) if rate else "?"
        bad = ", ".join(f"{server} {count}" for server, count in self.failures.most_common(5))
        return (f"[{'#' * filled}{'.' * (WIDTH - filled)}] {self.ended}/{self.total}  {rate * 60:.1f} a minute, {left} left"
                + (f"; failures: {bad}" if bad else ""))

    def draw(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._drawn < (REDRAW_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._drawn = now
        self._write(f"\r\033[K{self.line()}" if self._terminal else self.line() + "\n")

    def close(self) -> None:
        self._write(("\r\033[K" if self._terminal else "") + self.line() + "\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
