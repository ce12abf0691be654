"""One connection to an SQLite file, in a thread of its own; what waits for it is carried out together.

    put(work) ─► what waits ─► one transaction ─► COMMIT, which waits for the disk ─► each caller has its result

One commit carries many writes as well as one: those that come while the disk is waited for go together next.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

Work = Callable[[sqlite3.Connection], Any]
Result = TypeVar("Result")

_AT_ONCE = 100
"""Writes in one transaction: more would let the first of them wait for all."""


class _Job:
    """Work, and who waits for it."""

    __slots__ = ("failure", "future", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.failure: Exception | None = None

    def tell(self) -> None:
        """Called in the event loop of who waits."""
        if self.future.done():
            return
        if self.failure is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.failure)


class SQLiteConnection:
    """A connection that carries out work in the order in which it comes, for the callers of any event loop."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, *, writes: bool) -> None:
        self._connection = connection
        self._thread = thread
        self._carry_out = _in_one_transaction if writes else _one_by_one
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._lock = Lock()

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection], *, writes: bool) -> "SQLiteConnection":
        """The connection that `connect` makes. Raises what it raises, and leaves no thread then."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        try:
            connection = await asyncio.wrap_future(thread.submit(connect))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread, writes=writes)

    def put(self, work: Callable[[sqlite3.Connection], Result]) -> asyncio.Future[Result]:
        """What will come of `work`: done wholly, and committed, or not at all.

        It may be carried out twice, if it raises or if what goes together with it does. Work whose future is cancelled
        before its turn comes is left out.
        """
        job = _Job(work)
        with self._lock:
            self._waiting.append(job)
            if not self._busy:
                self._busy = True
                self._thread.submit(self._work)
        return job.future

    async def close(self) -> None:
        """Carries out what waits, and closes the connection."""
        closed = self._thread.submit(self._connection.close)
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closed)

    def _work(self) -> None:
        while True:
            with self._lock:
                jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                if not jobs:
                    self._busy = False
                    return
            self._carry_out(self._connection, [job for job in jobs if not job.future.cancelled()])
            _tell(jobs)


def _one_by_one(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    for job in jobs:
        try:
            job.result = job.work(connection)
        except Exception as exc:  # noqa: BLE001 - raised where the work was put
            job.failure = exc


def _in_one_transaction(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    """All of them; what one of them raises undoes what it did, and nothing else."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            connection.execute("SAVEPOINT one")
            try:
                job.result = job.work(connection)
            except Exception as exc:
                if not connection.in_transaction:
                    raise  # a full disk, for one: SQLite itself has undone everything
                job.failure = exc
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        connection.execute("COMMIT")
    except Exception as exc:  # noqa: BLE001 - raised where the work was put
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for job in jobs:
            job.failure = job.failure or exc


def _tell(jobs: Sequence[_Job]) -> None:
    """Wakes each event loop once, however many wait in it."""
    told: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        told.setdefault(job.future.get_loop(), []).append(job)
    for loop, here in told.items():
        with suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(_tell_here, here)


def _tell_here(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.tell()
