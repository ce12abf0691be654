"""`Filter`: which passages may be found, by site, path and whatever the front matter of their pages says. Does no IO.

What a condition means is decided here once: `Filter.admits` says it in Python, `Filter.to_qdrant` in the words of
Qdrant's interface, which the engine in process and the server share.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, cast

from chatkit_rag.documents import Passage

Value = str | int | float | bool | date | Enum | None
"""What a field may be; None stands for a field that is not there. Dates and members of enumerations stand for what
front matter has of them: their text in ISO 8601, and their values."""
Bound = float | date
"""A number, or a day or moment, which is compared with the ISO 8601 dates of front matter."""

OWN = {"site", "path"}
"""Fields of the passage itself; every other is of its metadata."""

_UNNAMED = re.compile(r'["\\]')
"""What the name of a field may not hold where it stands between quotation marks: there is no escape for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A condition: the field is a number, or a date, within bounds; None leaves an end open."""

    at_least: Bound | None = None
    at_most: Bound | None = None

    def holds(self, value: object) -> bool:
        """Whether `value` is of the bounds' kind, and within them."""
        if isinstance(self.at_least, date) or isinstance(self.at_most, date):
            moment = _moment(value)
            return moment is not None and (
                (_moment(self.at_least) or moment) <= moment <= (_moment(self.at_most) or moment)
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = cast("tuple[float | None, float | None]", (self.at_least, self.at_most))
        return (low is None or low <= value) and (high is None or value <= high)


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A condition: the field has none of these values. One that is not there has none of them."""

    values: tuple[Value, ...]

    def __init__(self, *values: Value) -> None:
        object.__setattr__(self, "values", tuple(map(_as_front_matter, values)))


Condition = Value | Iterable[Value] | Range | NoneOf
"""A value; several, one of which is enough; or one of the classes above. A field with a list of values has each."""


@dataclass(frozen=True, slots=True, init=False)
class Filter:
    """Conditions on passages, all of which must hold; without any, every passage is admitted.

    `Filter(module="slam", week=Range(at_most=3), level=("beginner", None), audience=NoneOf("teachers"))`
    """

    conditions: tuple[tuple[str, tuple[Value, ...] | Range | NoneOf], ...]

    def __init__(self, **conditions: Condition) -> None:
        normal = tuple((field, _normal(condition)) for field, condition in conditions.items())
        object.__setattr__(self, "conditions", normal)

    def __and__(self, other: "Filter") -> "Filter":
        """What both admit."""
        both = Filter()
        object.__setattr__(both, "conditions", (*self.conditions, *other.conditions))
        return both

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def fields(self) -> set[str]:
        """The fields that conditions are about."""
        return {field for field, _ in self.conditions}

    def admits(self, passage: Passage) -> bool:
        """Whether every condition holds for the passage."""
        return self.admits_page(passage.metadata, **{field: getattr(passage, field) for field in OWN})

    def admits_page(self, metadata: Mapping[str, Any], **own: str) -> bool:
        """Whether every condition holds for what is at hand of a page: its metadata, and fields such as `site`."""
        return all(
            _holds(condition, values_of(own.get(field) if field in OWN else metadata.get(field)))
            for field, condition in self.conditions
        )

    def to_qdrant(
        self,
        *,
        fields: Iterable[str] | None = None,
        shared: Mapping[str, str] | None = None,
        without: Collection[str] = (),
    ) -> dict[str, Any] | None:
        """The filter as Qdrant's REST interface writes it; None where it admits no passage at all.

        Args:
            fields: the metadata that passages have at all, where that is known. Conditions on others are decided
                without the engine.
            shared: fields that are the same in all passages, with their values. These are decided likewise.
            without: fields whose conditions are left out, so that more is admitted: see `admits`.
        """
        there = None if fields is None else {*fields, *OWN}
        same = shared or {}
        must: list[dict[str, Any]] = []
        for field, condition in self.conditions:
            if field in without:
                continue
            if field not in same and (there is None or field in there):
                must.append(_to_qdrant(field, condition))
            elif not _holds(condition, values_of(same.get(field))):
                return None
        return {"must": must} if must else {}


def field_kinds(passages: Iterable[Passage], *, most: int = 32) -> dict[str, str]:
    """The kind of index that each field of the metadata wants: `keyword`, `float`, `bool` or `datetime`.

    Fields of several kinds want none, which is said by an empty name, and so do those that no engine can be asked
    about; of more than `most` fields, those that most passages have want one. What is called as a field of the
    passage itself is none: a condition of that name is about the passage's.
    """
    found: dict[str, set[str]] = {}
    held: dict[str, int] = {}
    for passage in passages:
        for field, value in passage.metadata.items():
            if field in OWN:
                continue
            kinds = {kind_of(single) for single in values_of(value)}
            found.setdefault(field, set()).update(kinds)
            held[field] = held.get(field, 0) + 1
    single = {field: next(iter(kinds)) for field, kinds in found.items() if len(kinds) == 1 and can_be_named(field)}
    chosen = sorted(filter(single.get, single), key=lambda field: (-held[field], field))[:most]
    return {field: single[field] if field in chosen else "" for field, kinds in sorted(found.items()) if kinds}


def _normal(condition: Condition) -> tuple[Value, ...] | Range | NoneOf:
    if isinstance(condition, Range | NoneOf):
        return condition
    if condition is None or isinstance(condition, str | int | float | bool | date | Enum):
        return (_as_front_matter(condition),)
    return tuple(map(_as_front_matter, condition))


def _as_front_matter(value: Any) -> Any:
    """The value as front matter has it, which knows no dates and no enumerations."""
    value = value.value if isinstance(value, Enum) else value
    return value.isoformat() if isinstance(value, date) else value


def values_of(value: Any) -> list[Any]:
    """A field's values: several, one, or none."""
    if isinstance(value, Mapping):
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [single for single in cast("Sequence[Any]", value) if single is not None]
    return [] if value is None else [value]


def _holds(condition: tuple[Value, ...] | Range | NoneOf, values: list[Any]) -> bool:
    if isinstance(condition, Range):
        return any(map(condition.holds, values))
    if isinstance(condition, NoneOf):
        return not _has_one(condition.values, values)
    return _has_one(condition, values)


def _has_one(wanted: tuple[Value, ...], values: list[Any]) -> bool:
    return any(not values if value is None else any(_same(value, held) for held in values) for value in wanted)


def _same(wanted: Value, held: Any) -> bool:
    """`True` is not 1, and "1" neither; 1 and 1.0 are the same number."""
    if isinstance(wanted, str | bool) or isinstance(held, str | bool):
        return type(wanted) is type(held) and wanted == held
    return wanted == held


def flags(metadata: Mapping[str, Any]) -> list[str]:
    """The truth values in it as words, which a point carries besides.

    qdrant-edge 0.9 takes `True` in a condition for the number 1, which is the same to no field: it is asked for a word.
    """
    return [
        _flag(field, value) for field, held in metadata.items() for value in values_of(held) if isinstance(value, bool)
    ]


def can_be_named(field: str) -> bool:
    """Whether an engine has a way to write the name of a field."""
    return not _UNNAMED.search(field)


def key_of(field: str) -> str:
    """Where a field stands in a point's payload."""
    if field in OWN:
        return field
    return f"metadata.{field}" if field.replace("-", "_").isidentifier() else f'metadata."{field}"'


def _to_qdrant(field: str, condition: tuple[Value, ...] | Range | NoneOf) -> dict[str, Any]:
    if isinstance(condition, Range):
        bounds = {"gte": condition.at_least, "lte": condition.at_most}
        said = {name: _said(bound) for name, bound in bounds.items() if bound is not None}
        return {"key": key_of(field), "range": said}
    if isinstance(condition, NoneOf):
        return {"must_not": [_one_of(field, condition.values)]}
    return _one_of(field, condition)


def _one_of(field: str, values: tuple[Value, ...]) -> dict[str, Any]:
    key = key_of(field)
    words = [value for value in values if isinstance(value, str)]
    truths = [_flag(field, value) for value in values if isinstance(value, bool)]
    options: list[dict[str, Any]] = [{"key": key, "match": {"any": words}}] if words else []
    if truths:
        options.append({"key": "flags", "match": {"any": truths}})
    for value in values:
        if value is None:
            options.append({"is_empty": {"key": key}})
        elif not isinstance(value, str | bool):  # as a range, which knows whole and broken numbers alike
            options.append({"key": key, "range": {"gte": value, "lte": value}})
    if not options:  # one of no values: nothing is
        options = [{"key": key, "match": {"any": []}}]
    return options[0] if len(options) == 1 else {"should": options}


def _flag(field: str, value: bool) -> str:  # noqa: FBT001 - it is the value
    return f"{field}={value}"


def kind_of(value: Any) -> str:
    """What a value is indexed as: `bool`, `float`, `datetime` or `keyword`; empty for what cannot be filtered by."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float"
    if isinstance(value, str):
        return "datetime" if _moment(value) else "keyword"
    return ""


def _said(bound: Bound) -> float | str:
    moment = _moment(bound) if isinstance(bound, date) else None
    return moment.isoformat() if moment else cast("float", bound)


def _moment(value: object) -> datetime | None:
    """The moment that a date or its ISO 8601 text means; a day is its beginning, in UTC."""
    if isinstance(value, str) and len(value) >= len("2026-01-01"):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
