"""Copies of records in depth. Pure."""

from copy import deepcopy
from datetime import datetime
from typing import Any, TypeVar, cast

from pydantic import AnyUrl, BaseModel

_SHARED = frozenset({type(None), bool, int, float, str, datetime, AnyUrl})
"""What never changes, and so may be in two records."""

Record = TypeVar("Record", bound=BaseModel)


def copied(record: Record) -> Record:
    """`record.model_copy(deep=True)`, at a fifth of its cost for what a thread or an item holds."""
    copy = record.model_copy()
    for fields in (vars(copy), copy.__pydantic_extra__ or {}):
        for name, value in fields.items():
            if type(value) not in _SHARED:
                fields[name] = _copied(value)
    return copy


def _copied(value: Any) -> Any:
    if type(value) in _SHARED:
        return value
    if isinstance(value, BaseModel):
        return copied(value)
    if type(value) is dict:
        return {key: _copied(held) for key, held in cast("dict[Any, Any]", value).items()}
    if type(value) is list:
        return [_copied(held) for held in cast("list[Any]", value)]
    return deepcopy(value)
