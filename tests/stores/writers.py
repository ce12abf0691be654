"""Processes that write to a store until they are killed, and say what they do.

    python writers.py sqlite|postgres ADDRESS

For every line `RUN PROCESSES WRITERS ITEMS` of its input it forks so many processes, so that what was imported need not
be imported a thousand times, and says their ids. So many writers in each write so many items each to the thread RUN,
or, for nought, without end. A write that finds the store unavailable is tried again. When a process has ended, its
parent says how.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any

from chatkit.types import SDKHiddenContextItem, ThreadMetadata

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from stores.history import History, content_of

ADA = RequestContext(principal=Principal("ada"))
T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)


def store_at(kind: str, address: str) -> Any:
    """A store of a kind, not opened yet."""
    return SQLiteStore(address) if kind == "sqlite" else PostgresStore(address, pool_size=4)


def written(id_: str, thread_id: str) -> SDKHiddenContextItem:
    """The item that is written under this id."""
    return SDKHiddenContextItem(id=id_, thread_id=thread_id, created_at=T0, content=content_of(id_))


@dataclass(slots=True)
class Writers:
    """The parent of the writing processes."""

    process: "subprocess.Popen[str]"
    pids: list[int] = field(default_factory=list)
    """Of those that write now."""

    def begin(self, run: str, *, processes: int = 1, writers: int, items: int = 0) -> None:
        """Lets so many writers in each of so many processes write to the thread `run`."""
        self._stdin.write(f"{run} {processes} {writers} {items}\n")
        self._stdin.flush()
        self.pids = [int(pid) for pid in self._line().split()]

    def hear(self, history: History, acknowledgements: int = 1, *, since: int = 0) -> int:
        """Takes what they say, until they have told of so many acknowledgements after the moment `since`; the last."""
        while True:
            line = self._line()
            history.take(line)
            moment = int(line.split()[1])
            acknowledgements -= line.startswith("ok") and moment > since
            if acknowledgements <= 0:
                return moment

    def hear_all(self, history: History) -> list[int]:
        """Takes what they say to their end; their exit codes, negative for a signal."""
        ended: list[int] = []
        while len(ended) < len(self.pids):
            line = self._line()
            if line.startswith("ended"):
                ended.append(int(line.split()[1]))
            else:
                history.take(line)
        self.pids = []
        return ended

    def kill(self, history: History) -> list[int]:
        """Kills them, and takes what they had said until then; their exit codes."""
        for pid in self.pids:
            os.kill(pid, SIGKILL)
        return self.hear_all(history)

    @property
    def _stdin(self) -> Any:
        assert self.process.stdin is not None
        return self.process.stdin

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the writers are gone"
        return line.strip()


@contextmanager
def writers(kind: str, address: str) -> Iterator[Writers]:
    """What writes to the store of this kind at this address."""
    here = Path(__file__)
    process = subprocess.Popen(
        [sys.executable, str(here), kind, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent.parent), os.environ.get("PYTHONPATH", "")])},
    )
    started = Writers(process)
    try:
        yield started
    finally:
        for pid in started.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        assert process.stdin is not None
        assert process.stdout is not None
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def _write(kind: str, address: str, run: str, writers: int, items: int) -> None:
    store = store_at(kind, address)
    # Saved by each process, and so there before any item: saving it again changes nothing.
    await _stubbornly(lambda: store.save_thread(ThreadMetadata(id=run, created_at=T0), ADA))

    async def one(writer: int) -> None:
        for number in range(items) if items else count():
            id_ = f"{run}-{os.getpid()}-{writer}-{number}"
            _say("begin", time.monotonic_ns(), id_)
            await _stubbornly(lambda id_=id_: store.add_thread_item(run, written(id_, run), ADA))
            _say("ok", time.monotonic_ns(), id_)

    await asyncio.gather(*(one(writer) for writer in range(writers)))
    await store.close()


async def _stubbornly(call: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.02)


def _say(*words: object) -> None:
    # By one call: several processes share the pipe, and a line is not to be cut by another's.
    os.write(sys.stdout.fileno(), f"{' '.join(map(str, words))}\n".encode())


def _main() -> None:
    kind, address = sys.argv[1:]
    for line in sys.stdin:
        run, *numbers = line.split()
        processes, writers, items = map(int, numbers)
        barrier, opened = os.pipe()
        children: list[int] = []
        for _ in range(processes):
            child = os.fork()
            if not child:
                os.close(opened)
                os.read(barrier, 1)  # ends when the parent has told the ids of all
                asyncio.run(_write(kind, address, run, writers, items))
                return
            children.append(child)
        _say(*children)
        os.close(barrier)
        os.close(opened)
        for _ in children:
            _, status = os.wait()
            _say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
