"""What every store can hold: nothing more is refused, and what is refused is named."""

from datetime import UTC, datetime
from math import isfinite, nan
from typing import Any

import pytest
from chatkit.types import Page, Thread
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.storable import check_item, check_storable
from chatkit_rag.testing.store.part import message, thread
from chatkit_rag.testing.store.records import ITEMS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: st.lists(values) | st.dictionaries(st.text(st.characters()), values),
)


def texts_and_numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for pair in value.items() for one in pair for part in texts_and_numbers(one)]
    if isinstance(value, list):
        return [part for one in value for part in texts_and_numbers(one)]
    return [value]


def can_be_held(value: Any) -> bool:
    if isinstance(value, str):
        return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value)
    return not isinstance(value, float) or isfinite(value)


@given(JSON)
def test_it_refuses_what_holds_one_of_them_and_nothing_else(value: Any):
    storable = all(can_be_held(part) for part in texts_and_numbers(value))

    if storable:
        check_storable({"metadata": value})
    else:
        with pytest.raises(InvalidRequest, match="`metadata` holds"):
            check_storable({"metadata": value})


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_items_of_all_types_can_be_stored(item: Any):
    check_item(item, "thr_1")


@pytest.mark.parametrize("value", [(1, "a"), {1}, {1: 2}, datetime(2025, 3, 1, tzinfo=UTC), b"text"], ids=repr)
def test_what_json_has_another_form_for_can_be_stored(value: Any):
    check_storable({"a": value})


@pytest.mark.parametrize("value", [(nan,), {"a\0"}, b"\0"], ids=repr)
def test_and_is_looked_into(value: Any):
    with pytest.raises(InvalidRequest):
        check_storable({"a": value})


def test_the_items_that_a_thread_carries_are_no_part_of_it():
    check_storable(Thread(**thread().model_dump(), items=Page(data=[message(text="a\0")])))


def test_nesting_has_an_end():
    def nested(levels: int) -> Any:
        return [nested(levels - 1)] if levels else 1

    check_storable({"a": nested(90)})
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        check_storable({"a": nested(101)})
