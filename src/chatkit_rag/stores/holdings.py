"""Everything that a database holds of a reader, table by table, page by page."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit_rag.stores.privacy import Holding, Kind
from chatkit_rag.stores.rows import document_from_json

PAGE = 100

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, named as its kind, whose rows each belong to an owner."""

    kind: Kind
    key: tuple[str, ...]
    """The columns that tell a row from the owner's others, in their order."""
    first: Row
    """What stands before every key."""
    columns: tuple[str, ...]
    """What else is read."""
    record: Callable[[Row], dict[str, Any]]
    """What key and columns say."""


def payload_of(row: Row) -> dict[str, Any]:
    """The record of a row that ends with its payload."""
    return document_from_json(row[-1])


def _feedback(row: Row) -> dict[str, Any]:
    thread_id, item_id, payload = row
    return {"thread_id": thread_id, "item_id": item_id, **document_from_json(payload)}


def _lease(row: Row) -> dict[str, Any]:
    thread_id, until = row
    return {"thread_id": thread_id, "until": until}


def tables(requests: Table, *, until: str) -> tuple[Table, ...]:
    """The tables in which readers' rows are.

    Args:
        requests: that of remembered requests, which the stores keep in different ways.
        until: the end of a lease, in seconds since the epoch.
    """
    return (
        Table("threads", ("seq",), (0,), ("payload",), payload_of),
        Table("items", ("thread_id", "seq"), ("", 0), ("payload",), payload_of),
        Table("feedback", ("thread_id", "item_id"), ("", ""), ("payload",), _feedback),
        Table("attachments", ("id",), ("",), ("payload",), payload_of),
        requests,
        Table("leases", ("thread_id",), ("",), (until,), _lease),
    )


async def rows_in(table: Table, read: Callable[[Row], Awaitable[Sequence[Row]]]) -> AsyncGenerator[Holding]:
    """The rows of a table; `read` gives up to a `PAGE` of those behind a key."""
    last: Row | None = table.first
    while last is not None:
        page = await read(last)
        for row in page:
            yield Holding(kind=table.kind, record=table.record(row))
        last = page[-1][: len(table.key)] if len(page) == PAGE else None
