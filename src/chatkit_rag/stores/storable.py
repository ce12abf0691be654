"""What every store can hold: checked in one place, so that all stores refuse the same.

Postgres' texts hold no NUL, UTF-8 no half of a surrogate pair, JSON neither NaN nor infinity. Without the check, one
store would keep such a value, another change it without a word, and a third fail.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from math import isfinite
from typing import Any, cast

from chatkit.types import ThreadItem, ThreadMetadata
from pydantic import AnyUrl, BaseModel
from pydantic_core import to_jsonable_python

from chatkit_rag.errors import InvalidRequest

_DEPTH = 100
"""Levels of lists and mappings: pydantic reads no JSON that is nested about twice as deeply."""

_PLAIN = frozenset({type(None), bool, int, datetime, AnyUrl})


class _Unstorable(Exception):
    """What it is that cannot be stored."""


def check_storable(record: BaseModel | Mapping[str, Any]) -> None:
    """Returns where every store can hold `record`, which is looked through and not serialised.

    Raises:
        InvalidRequest: it holds what some store cannot hold; the message names the field.
    """
    for name, value in _fields(record).items():
        try:
            _check((value,), _DEPTH)
        except _Unstorable as exc:
            raise InvalidRequest(f"`{name}` holds {exc}, which cannot be stored", details={"field": name}) from exc


def check_item(item: ThreadItem, thread_id: str) -> None:
    """Returns where every store can hold `item`, in the thread that it says it is of.

    Raises:
        InvalidRequest: as `check_storable`; or it is of another thread than `thread_id`.
    """
    if item.thread_id != thread_id:
        raise InvalidRequest("the item is of another thread", details={"item": item.id, "thread": item.thread_id})
    check_storable(item)


def _fields(record: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(record, BaseModel):
        return record
    if isinstance(record, ThreadMetadata):  # a `Thread` carries items, which are not stored with it
        return {name: getattr(record, name) for name in ThreadMetadata.model_fields}
    return record.__dict__ | record.model_extra if record.model_extra else record.__dict__


def _check(parts: Iterable[Any], depth: int) -> None:
    if not depth:
        raise _Unstorable("lists and mappings nested too deeply")
    for part in parts:
        # Looked up before it is asked what it inherits from: nearly everything is of one of these.
        if type(part) in _PLAIN:
            continue
        if isinstance(part, str):
            _check_text(part)
        elif isinstance(part, float):
            if not isfinite(part):
                raise _Unstorable("NaN or an infinite number")
        else:
            _check(_parts(part), depth - 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _Unstorable("a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise _Unstorable("half a surrogate pair") from exc


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of."""
    if isinstance(value, BaseModel):
        return _fields(value).values()
    if isinstance(value, dict):
        mapping = cast("dict[Any, Any]", value)
        return chain(mapping.keys(), mapping.values())
    if isinstance(value, list):
        return cast("list[Any]", value)
    try:
        return [to_jsonable_python(value)]
    except ValueError as exc:
        raise _Unstorable("a value that is not JSON") from exc
