"""The arithmetic of pages."""

import pytest
from chatkit.types import Page
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from chatkit_rag.stores.paging import MAX_LIMIT, clamped, page_of


class Row(BaseModel):
    """Anything with an id."""

    id: str


@given(st.integers())
def test_a_page_holds_from_one_row_to_a_hundred_whatever_is_asked(limit: int):
    assert 1 <= clamped(limit) <= MAX_LIMIT
    assert clamped(limit) == limit or not 1 <= limit <= MAX_LIMIT


@pytest.mark.parametrize(("there", "limit"), [(0, 1), (1, 1), (2, 2), (3, 7)])
def test_the_last_page_says_that_it_is_the_last(there: int, limit: int):
    rows = [Row(id=str(number)) for number in range(there)]

    assert page_of(rows, limit, last_id="unused") == Page[Row](data=rows, has_more=False, after=None)


def test_the_row_too_many_is_left_out_and_says_that_there_are_more():
    rows = [Row(id=str(number)) for number in range(3)]

    assert page_of(rows, 2, last_id="1") == Page[Row](data=rows[:2], has_more=True, after="1")
