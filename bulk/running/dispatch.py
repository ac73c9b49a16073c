"""Which job a server gets next: jobs of one person stay on one server as long as other servers have something else to do.

Between the plan, which is read as it is needed, and the servers lie at most `look_ahead` jobs.
"""
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bulk.jobs.plan import Job

HOME_SECONDS = 30.0         # a server that has (or had) a job gets so long to come back before another one takes it
ELSEWHERE_SECONDS = 10.0    # other servers get so long to take what failed on one


@dataclass
class Again:
    """A job that was handed out before.

    due: not before. home: the server that may still have it; for others after `home_until`. avoid: the server it failed on;
    for that one only after `avoid_until`. Times are time.monotonic().
    """

    job: Job
    due: float
    home: str = ""
    home_until: float = 0.0
    avoid: str = ""
    avoid_until: float = 0.0

    def suits(self, server: str, now: float) -> bool:
        return (now >= self.due and (self.home in ("", server) or now >= self.home_until)
                and (self.avoid != server or now >= self.avoid_until))


class Dispatch:
    """The jobs that were read and not yet handed out."""

    def __init__(self, look_ahead: int):
        self.look_ahead = look_ahead
        self.waiting = 0
        self._groups: dict[str, deque[Job]] = {}    # by person, in order of arrival
        self._unowned: dict[str, None] = {}         # persons that no server has
        self._person: dict[str, str] = {}           # of each server
        self._again: list[Again] = []

    @property
    def room(self) -> int:
        """How many jobs more may be read."""
        return max(0, self.look_ahead - self.waiting)

    @property
    def empty(self) -> bool:
        return not self.waiting and not self._again

    def add(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.person not in self._groups:
                self._groups[job.person] = deque()
                if job.person not in self._person.values():
                    self._unowned[job.person] = None
            self._groups[job.person].append(job)
            self.waiting += 1

    def take_home(self, job: Job, server: str) -> None:
        """The job may be running on this server, or be done there: it goes there first."""
        self._again.append(Again(job, 0.0, home=server, home_until=time.monotonic() + HOME_SECONDS))

    def take_elsewhere(self, job: Job, server: str, wait: float) -> None:
        """The job failed on this server: another one gets it after `wait` seconds."""
        due = time.monotonic() + wait
        self._again.append(Again(job, due, avoid=server, avoid_until=due + ELSEWHERE_SECONDS))

    def next(self, server: str) -> Job | None:
        """The next job for a server; None where there is nothing for it now."""
        now = time.monotonic()
        for place, again in enumerate(self._again):
            if again.suits(server, now):
                return self._again.pop(place).job
        person = self._person.get(server)
        if person not in self._groups:
            person = self._choose()
            if person is None:
                return None
            self._person[server] = person
            self._unowned.pop(person, None)
        group = self._groups[person]
        job = group.popleft()
        self.waiting -= 1
        if not group:
            del self._groups[person]
            self._unowned.pop(person, None)
        return job

    def _choose(self) -> str | None:
        """A person whom nobody has; else the one of another server who has the most jobs left."""
        if self._unowned:
            return next(iter(self._unowned))
        owned = set(self._person.values()) & self._groups.keys()
        return max(owned, key=lambda person: len(self._groups[person]), default=None)

    def leave(self, server: str) -> None:
        """The server takes no more jobs for now: its person is free for others."""
        person = self._person.pop(server, None)
        if person in self._groups and person not in self._person.values():
            self._unowned[person] = None
