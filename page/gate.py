"""Whose turn it is: one job at a time on the model, sessions in turn, and a clear refusal where too many wait."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_WAITING = 100  # jobs of all sessions
MAX_PER_SESSION = 4  # jobs of one, the running one included


class Refused(ValueError):
    """There are too many jobs."""


class Gate:
    """Lets one job through at a time. Among the sessions that wait, each has one job done before any has a second.

    All methods run on one event loop.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, max_per_session: int = MAX_PER_SESSION):
        self.max_waiting, self.max_per_session = max_waiting, max_per_session
        self.waiting: OrderedDict[str, deque[asyncio.Future]] = OrderedDict()  # the next session first
        self.running: str | None = None
        self.mean_s: float | None = None  # of a job, moving average; None before the first one has ended
        self.began: float | None = None  # when the running job began

    def count(self, key: str) -> int:
        return len(self.waiting.get(key, ())) + (self.running == key)

    def total(self) -> int:
        return sum(len(jobs) for jobs in self.waiting.values())

    def before(self, key: str, ticket: asyncio.Future) -> int:
        """Jobs that come before a waiting one, the running one included."""
        jobs = self.waiting.get(key, ())
        if ticket not in jobs:
            return 0
        own = list(jobs).index(ticket)  # rounds that pass before its own
        order = list(self.waiting)
        ahead = sum(
            min(len(jobs), own + (order.index(other) < order.index(key)))
            for other, jobs in self.waiting.items()
            if other != key
        )
        return ahead + own + (self.running is not None)

    def _next(self) -> None:
        self.running = None
        while self.waiting:
            key, jobs = self.waiting.popitem(last=False)
            ticket = jobs.popleft()
            if jobs:
                self.waiting[key] = jobs  # at the end of the round
            if not ticket.done():
                self.running = key
                ticket.set_result(None)
                return

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator["Turn"]:
        """A place in the queue, to be awaited with `Turn.wait`; leaving the block gives it up.

        Raises:
            Refused: too many jobs wait, of everybody or of this session.
        """
        if self.count(key) >= self.max_per_session:
            raise Refused(f"you have {self.count(key)} jobs waiting; allowed: {self.max_per_session} at a time")
        if self.total() >= self.max_waiting:
            minutes = max(1, round(self.total() * (self.mean_s or 2.0) / 60))
            raise Refused(
                f"{self.total()} jobs are waiting, which is all there is room for; try again in {minutes} min"
            )
        ticket = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(key, deque()).append(ticket)
        if self.running is None:
            self._next()
        turn = Turn(self, key, ticket)
        try:
            yield turn
        finally:
            if turn.began is not None or ticket.done():
                if turn.began is not None:
                    took = time.monotonic() - turn.began
                    self.mean_s = took if self.mean_s is None else self.mean_s + 0.2 * (took - self.mean_s)
                self._next()
            else:
                jobs = self.waiting[key]
                jobs.remove(ticket)
                if not jobs:
                    del self.waiting[key]


class Turn:
    """A job's place in the queue."""

    def __init__(self, gate: Gate, key: str, ticket: asyncio.Future):
        self.gate, self.key, self.ticket = gate, key, ticket
        self.began: float | None = None

    async def wait(self, seconds: float) -> bool:
        """Whether its turn came within so many seconds."""
        if not self.ticket.done():
            await asyncio.wait([self.ticket], timeout=seconds)
        if self.ticket.done() and self.began is None:
            self.began = self.gate.began = time.monotonic()
        return self.ticket.done()

    @property
    def before(self) -> int:
        return self.gate.before(self.key, self.ticket)

    @property
    def wait_s(self) -> float | None:
        """About how long it will still wait; None before any job has ended and while the running one takes longer."""
        mean, began = self.gate.mean_s, self.gate.began
        ran = 0.0 if began is None or self.gate.running is None else time.monotonic() - began
        return None if mean is None or ran > mean else self.before * mean - ran
