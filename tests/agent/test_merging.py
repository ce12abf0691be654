"""Deltas that arrived together go on together; nothing is lost, held back, or put out of order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.agent.models.merging import TEXT_DELTA, DeltaMerger


def delta(text: str, **place: Any) -> dict[str, Any]:
    return {"type": TEXT_DELTA, "item_id": "m", "output_index": 0, "content_index": 0, "delta": text, **place}


OTHER = {"type": "response.output_item.done", "item": {}}


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event.get("delta", "|") for event in events]


def test_the_first_goes_on_by_itself_and_those_behind_it_as_one():
    merger = DeltaMerger(100)

    assert texts(list(merger.merge([delta("A"), delta(" node"), delta(" is"), OTHER]))) == ["A", " node is", "|"]
    assert texts(list(merger.merge([delta(" a"), delta(" process.")]))) == [" a process."]


def test_a_merged_one_holds_no_more_than_it_may():
    merger = DeltaMerger(4)

    assert texts(list(merger.merge([delta(text) for text in ("a", "bb", "cc", "d", "eeeee", "f")]))) == [
        "a",
        "bbcc",
        "d",
        "eeeee",
        "f",
    ]


@pytest.mark.parametrize("place", [{"item_id": "n"}, {"output_index": 1}, {"content_index": 1}])
def test_deltas_of_different_places_stay_apart(place: dict[str, Any]):
    events = [delta("a"), delta("b"), delta("c", **place)]

    assert list(DeltaMerger(100).merge(events)) == events


def test_none_are_merged_where_that_is_not_wanted():
    events = [delta("a"), delta("b"), delta("c")]

    assert list(DeltaMerger(0).merge(events)) == events


def test_what_came_before_a_broken_event_is_not_lost():
    def broken() -> Any:
        yield from [delta("a"), delta("b"), delta("c")]
        raise ResponseFailed("broken", reason=FailureReason.MALFORMED)

    read: list[dict[str, Any]] = []
    with pytest.raises(ResponseFailed):
        read.extend(DeltaMerger(100).merge(broken()))

    assert texts(read) == ["a", "bc"]


@given(
    st.lists(st.lists(st.one_of(st.text(max_size=5).map(delta), st.just(OTHER)))),
    st.integers(min_value=0, max_value=12),
)
def test_text_and_order_stay(reads: list[list[dict[str, Any]]], characters: int):
    merger = DeltaMerger(characters)

    merged = [event for read in reads for event in merger.merge(read)]

    assert "".join(texts(merged)) == "".join(texts([event for read in reads for event in read]))
