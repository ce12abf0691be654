"""Records as the text of a row, and back: one that cannot be read is left out, and does not take its page along."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter, ValidationError

from chatkit_rag.stores.paging import clamped

_log = logging.getLogger(__name__)

Record = TypeVar("Record", bound=BaseModel)

# Writes what `ThreadMetadata` has and nothing more: a `Thread` carries items besides, which have their own place.
_THREAD = TypeAdapter(ThreadMetadata)
_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)
_DOCUMENT = TypeAdapter(dict[str, Any])


def thread_to_json(thread: ThreadMetadata) -> str:
    """The thread without its items, its time in UTC."""
    created_at = thread.created_at.astimezone(UTC)
    return _THREAD.dump_json(thread.model_copy(update={"created_at": created_at})).decode()


def thread_from_json(text: str) -> ThreadMetadata:
    """The thread that was stored as `text`."""
    return _THREAD.validate_json(text)


def item_to_json(item: ThreadItem) -> str:
    """The item, its time in UTC."""
    return item.model_copy(update={"created_at": item.created_at.astimezone(UTC)}).model_dump_json()


def attachment_from_json(text: str) -> Attachment:
    """The attachment's record that was stored as `text`."""
    return _ATTACHMENT.validate_json(text)


def document_from_json(text: str) -> dict[str, Any]:
    """What was stored as `text`, as plain data; what cannot be read as `{"unreadable": text}`."""
    try:
        document: dict[str, Any] = _DOCUMENT.validate_json(text)
    except ValidationError:
        return {"unreadable": text}
    return document


def second_of(moment: datetime) -> str:
    """The second that a moment is in, as the records' times begin: these can be compared as texts."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def page_of_rows(
    rows: Sequence[Sequence[Any]],
    limit: int,
    what: str,
    read: Callable[[str], Record],
    read_all: Callable[[Sequence[str]], list[Record]] | None = None,
) -> Page[Record]:
    """A page out of up to `clamped(limit) + 1` rows of `id` and `payload`: the one too many says that there are more.

    A row that cannot be read leaves a gap; the cursor behind it is that of a whole page. `read_all` reads all of them
    where each can be read.
    """
    size = clamped(limit)
    has_more = len(rows) > size
    return Page[Record](
        data=_records(rows[:size], what, read, read_all),
        has_more=has_more,
        after=rows[size - 1][0] if has_more else None,
    )


def _records(
    rows: Sequence[Sequence[Any]],
    what: str,
    read: Callable[[str], Record],
    read_all: Callable[[Sequence[str]], list[Record]] | None,
) -> list[Record]:
    if read_all is not None:
        with suppress(ValidationError):
            return read_all([payload for _, payload in rows])
    found = (read_row(id_, payload, what, read) for id_, payload in rows)
    return [record for record in found if record is not None]


def read_row(id_: str, payload: str, what: str, read: Callable[[str], Record]) -> Record | None:
    """The record of a row; None, and a line in the log, for one that a newer version wrote, or that is damaged."""
    try:
        return read(payload)
    except ValidationError as exc:
        # Not the error's own text, which quotes what readers wrote.
        kinds = ", ".join(sorted({error["type"] for error in exc.errors(include_input=False, include_url=False)}))
        _log.error("the %s %s cannot be read (%s) and is left out", what, id_, kinds)
        return None
