"""The arithmetic of pages that a cursor cuts. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from chatkit.types import Page
from pydantic import BaseModel

Row = TypeVar("Row", bound=BaseModel)

MAX_LIMIT = 100
DEFAULT_PAGE = 20


def clamped(limit: int) -> int:
    """The number of rows that a page may hold: 1..100, whatever was asked."""
    return max(1, min(limit, MAX_LIMIT))


def page_of(rows: Sequence[Row], limit: int, *, last_id: str | None) -> Page[Row]:
    """A page out of up to `limit + 1` rows: the one too many only says that there are more.

    `last_id` is the id of the last row that is kept, which the next page is asked for with.
    """
    has_more = len(rows) > limit
    return Page[Row](data=list(rows[:limit]), has_more=has_more, after=last_id if has_more else None)
