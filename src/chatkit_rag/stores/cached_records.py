"""Threads and pages as a cache keeps them: JSON, in which each item is written as the databases write it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from chatkit.types import Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter

from chatkit_rag.stores.interrupted import item_from_json

# Writes what `ThreadMetadata` has and nothing more: a `Thread` carries items besides, which have their own place.
_THREAD = TypeAdapter(ThreadMetadata)

Record = TypeVar("Record")
Row = TypeVar("Row", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Written(Generic[Record]):
    """How records of a kind are written, and read; both raise ValueError or TypeError for what is none."""

    write: Callable[[Record], bytes]
    read: Callable[[bytes | str], Record]


def _pages(write: Callable[[Any], str], read: Callable[[str], Row]) -> Written[Page[Row]]:
    def write_page(page: Page[Row]) -> bytes:
        return orjson.dumps([page.has_more, page.after, [write(row) for row in page.data]])

    def read_page(text: bytes | str) -> Page[Row]:
        has_more, after, rows = orjson.loads(text)
        return Page[Row](data=[read(row) for row in rows], has_more=has_more, after=after)

    return Written(write_page, read_page)


def _write_item(item: BaseModel) -> str:
    return item.model_dump_json()


def _write_thread(thread: ThreadMetadata) -> str:
    return _THREAD.dump_json(thread).decode()


THREAD: Written[ThreadMetadata] = Written(_THREAD.dump_json, _THREAD.validate_json)
THREADS: Written[Page[ThreadMetadata]] = _pages(_write_thread, _THREAD.validate_json)
ITEMS: Written[Page[ThreadItem]] = _pages(_write_item, item_from_json)
