"""Copies share nothing that can change."""

from datetime import UTC, datetime
from typing import Any

import pytest
from chatkit.types import (
    ActiveStatus,
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    FileAttachment,
    ThreadMetadata,
    URLSource,
    WidgetItem,
)
from chatkit.widgets import Card, Text
from pydantic import BaseModel

from chatkit_rag.stores.copies import copied

MADE = datetime(2030, 1, 1, tzinfo=UTC)
SOURCE = URLSource(url="/nodes", title="Nodes", timestamp="then")
PART = AssistantMessageContent(text="A node.", annotations=[Annotation(source=SOURCE, index=2)])
RECORDS: list[BaseModel] = [
    ThreadMetadata(id="t", created_at=MADE, status=ActiveStatus(), metadata={"a": [{"b": 1}], "c": (1, {2})}),
    AssistantMessageItem(id="i", thread_id="t", created_at=MADE, content=[PART]),
    ClientToolCallItem(id="i", thread_id="t", created_at=MADE, call_id="c", name="n", arguments={"x": {"y": [None]}}),
    WidgetItem(id="i", thread_id="t", created_at=MADE, widget=Card(children=[Text(value="Hello")])),
    FileAttachment(id="f", name="a.txt", mime_type="text/plain", metadata={"k": {"l": "m"}}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_copy_is_equal_and_shares_no_part_that_can_change(record: BaseModel):
    copy = copied(record)

    assert copy == record.model_copy(deep=True)
    assert type(copy) is type(record)
    assert copy.model_fields_set == record.model_fields_set
    assert not _changeable(copy) & _changeable(record)


def _changeable(value: Any) -> set[int]:
    if isinstance(value, BaseModel):
        return {id(value), *_changeable(vars(value)), *_changeable(value.model_extra)}
    if isinstance(value, dict):
        return {id(value)}.union(*map(_changeable, value.values()))
    if isinstance(value, list | tuple):
        own = {id(value)} if isinstance(value, list) else set()
        return own.union(*map(_changeable, value))
    return {id(value)} if isinstance(value, set) else set()
