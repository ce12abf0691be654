"""The mark of an item that was cut short: ChatKit's types have no place for it, its JSON has.

A marked item is of a class of its own, with one field more: `status: "interrupted"`. It is stored and sent with it,
and is what it was for everything that does not ask.
"""

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from chatkit import types
from chatkit.types import AssistantMessageItem, GeneratedImageItem, ThreadItem, WidgetItem, WorkflowItem
from pydantic import BaseModel, TypeAdapter

_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
_ITEMS: TypeAdapter[list[ThreadItem]] = TypeAdapter(list[ThreadItem])
_MARK = '"status":"interrupted"'


class Interrupted(BaseModel):
    """What is added to an item that was cut short."""

    status: Literal["interrupted"] = "interrupted"


class InterruptedMessage(Interrupted, AssistantMessageItem):
    """An answer that stops in the middle."""


class InterruptedWorkflow(Interrupted, WorkflowItem):
    """Work that was stopped."""


class InterruptedWidget(Interrupted, WidgetItem):
    """A widget that was still being drawn."""


class InterruptedImage(Interrupted, GeneratedImageItem):
    """An image that was still being made."""


_CLASSES: dict[str, type[ThreadItem]] = {
    "assistant_message": InterruptedMessage,
    "workflow": InterruptedWorkflow,
    "widget": InterruptedWidget,
    "generated_image": InterruptedImage,
}
for _kind in _CLASSES.values():
    # ChatKit's fields name types of its module that are defined further down, which are not to be found from here.
    _kind.model_rebuild(_types_namespace=vars(types))


def interrupted(item: ThreadItem) -> ThreadItem:
    """`item` with the mark; as it is, where nothing of its kind is ever cut short."""
    kind = _CLASSES.get(item.type)
    if kind is None or isinstance(item, kind):
        return item
    return kind.model_construct(**{name: getattr(item, name) for name in type(item).model_fields})


def items_from_json(texts: Sequence[str]) -> list[ThreadItem]:
    """The items that were stored as `texts`: read at once, which costs less than one by one."""
    joined = ",".join(texts)
    if _MARK not in joined:
        items = _ITEMS.validate_json(f"[{joined}]")
        if len(items) == len(texts):
            return items
    return [item_from_json(text) for text in texts]


def item_from_json(text: str) -> ThreadItem:
    """The item that was stored as `text`, with its mark."""
    item = _ITEM.validate_json(text)
    # Looked for as text first: nearly no item has it, and reading twice costs as much as reading once.
    if _MARK in text and item.type in _CLASSES:
        document: dict[str, Any] = orjson.loads(text)
        return interrupted(item) if document.get("status") == "interrupted" else item
    return item
