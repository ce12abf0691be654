"""What `MemoryStore` keeps of one reader: records in the order of their first arrival, to be read in pages."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from chatkit.types import Attachment, Page
from pydantic import BaseModel

from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.paging import clamped, page_of
from chatkit_rag.stores.privacy import NEWEST_ITEMS

Row = TypeVar("Row", bound=BaseModel)


@dataclass(slots=True)
class OrderedRecords:
    """Records by id, in the order of their first arrival; a page costs its own length, not the list's."""

    records: dict[str, BaseModel] = field(default_factory=dict[str, BaseModel])
    sequence: list[int] = field(default_factory=list[int])
    ids: list[str] = field(default_factory=list[str])
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    next_number: int = 1

    def put(self, id_: str, record: BaseModel) -> None:
        """Adds a record, or puts another in its place."""
        if id_ not in self.numbers:
            self.numbers[id_] = self.next_number
            self.sequence.append(self.next_number)
            self.ids.append(id_)
            self.next_number += 1
        self.records[id_] = record

    def drop(self, id_: str) -> None:
        """Removes a record, if it is there."""
        number = self.numbers.pop(id_, None)
        if number is not None:
            position = bisect_right(self.sequence, number) - 1
            del self.sequence[position], self.ids[position], self.records[id_]

    def page(self, after: str | None, limit: int, order: str, what: str, copy: Callable[[BaseModel], Row]) -> Page[Row]:
        """A page of copies. Raises NotFound for an unknown `after`; `what` it would be."""
        if after is not None and after not in self.numbers:
            raise NotFound(what, after)
        size = clamped(limit)
        ids = self._ascending(after, size + 1) if order == "asc" else self._descending(after, size + 1)
        rows = [copy(self.records[id_]) for id_ in ids]
        return page_of(rows, size, last_id=ids[size - 1] if len(ids) > size else None)

    def _ascending(self, after: str | None, count: int) -> Sequence[str]:
        start = bisect_right(self.sequence, self.numbers[after]) if after else 0
        return self.ids[start : start + count]

    def _descending(self, after: str | None, count: int) -> Sequence[str]:
        end = bisect_right(self.sequence, self.numbers[after]) - 1 if after else len(self.ids)
        return self.ids[max(0, end - count) : end][::-1]


@dataclass(slots=True)
class OwnedRecords:
    """All that is one reader's."""

    threads: OrderedRecords = field(default_factory=OrderedRecords)
    items: dict[str, OrderedRecords] = field(default_factory=dict[str, OrderedRecords])
    attachments: dict[str, Attachment] = field(default_factory=dict[str, Attachment])
    feedback: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict[str, dict[str, dict[str, Any]]])
    """Thread -> item -> what the reader thinks of it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a thread nor a file."""
        return not (self.threads.ids or self.attachments)

    def drop_thread(self, thread_id: str) -> None:
        """Removes a thread with all that is in it."""
        self.threads.drop(thread_id)
        self.items.pop(thread_id, None)
        self.feedback.pop(thread_id, None)

    def last_activity(self, thread_id: str) -> datetime:
        """When something last came to a thread that is there, in whole seconds."""
        items = self.items.get(thread_id, OrderedRecords())
        newest = [items.records[id_] for id_ in items.ids[-NEWEST_ITEMS:]]
        made: list[datetime] = [getattr(record, "created_at") for record in (self.threads.records[thread_id], *newest)]  # noqa: B009 - see `in_utc`
        return max(made).replace(microsecond=0)
