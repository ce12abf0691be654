"""What writers did and what became of it: the checker behind the tests of faults.

A writer says when it begins a write and when the store acknowledged it, by one clock of the machine, which all
processes share. Whatever happened in between, the thread then holds each item that was acknowledged, none twice, none
that nobody wrote, each as it was written, and in an order that agrees with what the writers saw.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatkit.types import SDKHiddenContextItem, ThreadItem

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import Store


@dataclass(slots=True)
class Write:
    """One item's write."""

    begun: int
    """Nanoseconds of the machine's monotonic clock."""
    acknowledged: int | None = None


@dataclass(slots=True)
class History:
    """The writes to one thread, by the id of the item."""

    writes: dict[str, Write] = field(default_factory=dict)

    def begin(self, id_: str) -> None:
        self.writes[id_] = Write(time.monotonic_ns())

    def acknowledge(self, id_: str) -> None:
        self.writes[id_].acknowledged = time.monotonic_ns()

    def take(self, line: str) -> None:
        """A line of a writer in another process: `begin` or `ok`, the time, the item's id."""
        word, moment, id_ = line.split()
        if word == "begin":
            self.writes[id_] = Write(int(moment))
        else:
            self.writes[id_].acknowledged = int(moment)

    @property
    def acknowledged(self) -> list[str]:
        return [id_ for id_, write in self.writes.items() if write.acknowledged is not None]

    @property
    def open(self) -> list[str]:
        """Those that were begun, and never answered."""
        return [id_ for id_, write in self.writes.items() if write.acknowledged is None]

    def check(self, stored: Sequence[ThreadItem]) -> None:
        """Compares with what is stored, oldest first."""
        ids = [item.id for item in stored]
        assert len(set(ids)) == len(ids), f"twice: {sorted({id_ for id_ in ids if ids.count(id_) > 1})}"
        assert not set(ids) - self.writes.keys(), "an item that nobody wrote"
        assert not set(self.acknowledged) - set(ids), "an acknowledged item is lost"
        for item in stored:
            assert isinstance(item, SDKHiddenContextItem)
            assert item.content == content_of(item.id), f"{item.id} is half written"
        self._check_order(ids)

    def _check_order(self, ids: Sequence[str]) -> None:
        """What was acknowledged before another was begun stands before it."""
        latest = ("", 0)
        for id_ in ids:
            write = self.writes[id_]
            if write.acknowledged is not None and write.acknowledged < latest[1]:
                raise AssertionError(f"{id_} was acknowledged before {latest[0]} was begun, and stands behind it")
            latest = max(latest, (id_, write.begun), key=lambda found: found[1])


def content_of(id_: str) -> str:
    """What the item of this id says: long enough to be over more than one page of a file."""
    return f"{id_} " * (5000 // len(id_))


async def all_items(store: Store, thread_id: str, context: RequestContext) -> list[ThreadItem]:
    """Every item of a thread, oldest first."""
    items: list[ThreadItem] = []
    after = None
    while True:
        page = await store.load_thread_items(thread_id, after, 100, "asc", context)
        items += page.data
        if not page.has_more:
            return items
        after = page.after
