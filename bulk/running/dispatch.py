"""Which job a server gets next: jobs of one person stay on one server as long as other servers have something else to do."""
import time
from collections import deque

from bulk.jobs.plan import Job


class Dispatch:
    """The jobs that are not handed out. Times are time.monotonic()."""

    def __init__(self):
        self._groups: dict[str, deque[Job]] = {}    # by person, in order of arrival
        self._person: dict[str, str] = {}           # of each server
        self._again: list[tuple[Job, str, float, float]] = []

    def add(self, job: Job) -> None:
        self._groups.setdefault(job.person, deque()).append(job)

    def add_again(self, job: Job, server: str, *, here: float, elsewhere: float) -> None:
        """Adds a job that was handed out before: this server may take it after the time `here`, others after `elsewhere`."""
        self._again.append((job, server, here, elsewhere))

    def next(self, server: str) -> Job | None:
        """The next job for a server; None where there is nothing for it now."""
        for place, (job, owner, here, elsewhere) in enumerate(self._again):
            if time.monotonic() >= (here if owner == server else elsewhere):
                del self._again[place]
                return job
        person = self._person.get(server)
        if person not in self._groups:
            if not self._groups:
                return None
            owned = set(self._person.values())
            # a person whom no server has; else the one who has the most jobs left
            person = (next((person for person in self._groups if person not in owned), None)
                      or max(self._groups, key=lambda person: len(self._groups[person])))
            self._person[server] = person
        job = self._groups[person].popleft()
        if not self._groups[person]:
            del self._groups[person]
        return job

    def leave(self, server: str) -> None:
        """The server takes no more jobs for now: its person is free for others."""
        self._person.pop(server, None)
