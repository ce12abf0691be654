"""Rows whose record is text, made into pages: one that cannot be read is left out, and does not take its page along."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from chatkit.types import Page
from pydantic import BaseModel, ValidationError

from chatkit_rag.stores.paging import clamped

_log = logging.getLogger(__name__)

Record = TypeVar("Record", bound=BaseModel)


def page_of_rows(rows: Sequence[Any], limit: int, what: str, read: Callable[[str], Record]) -> Page[Record]:
    """A page out of up to `clamped(limit) + 1` rows of `id` and `payload`: the one too many says that there are more.

    A row that cannot be read leaves a gap; the cursor behind it is that of a whole page.
    """
    size = clamped(limit)
    found = (read_row(row.id, row.payload, what, read) for row in rows[:size])
    has_more = len(rows) > size
    data = [record for record in found if record is not None]
    return Page[Record](data=data, has_more=has_more, after=rows[size - 1].id if has_more else None)


def read_row(id_: str, payload: str, what: str, read: Callable[[str], Record]) -> Record | None:
    """The record of a row; None, and a line in the log, for one that a newer version wrote, or that is damaged."""
    try:
        return read(payload)
    except ValidationError as exc:
        # Not the error's own text, which quotes what readers wrote.
        kinds = ", ".join(sorted({error["type"] for error in exc.errors(include_input=False, include_url=False)}))
        _log.error("the %s %s cannot be read (%s) and is left out", what, id_, kinds)
        return None
