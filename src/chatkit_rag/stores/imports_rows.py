"""A row of one of the first systems' databases, made into what is stored here. Pure.

What the two systems have in common; `imports_s1` and `imports_s2` say what their rows hold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.imports import Kind, Place, Record, Unreadable, key_of
from chatkit_rag.stores.storable import check_storable

Json = dict[str, Any]

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of theirs."""

    id: str
    thread_id: str
    """Of an item; else empty."""
    user: str
    """Empty where there is none."""
    tenant: str | None
    """None where its table does not say."""
    created_at: str
    """ISO 8601, in UTC; empty where there is no time that could be told."""
    payload: str
    """What it holds, as JSON text."""
    lost: str
    """Why it belongs to nothing; empty where it does."""


class NotTaken(Exception):
    """Why a row cannot be taken over, for people; without a word of what the row says."""


Reader = Callable[[SourceRow], tuple[str, BaseModel]]
"""A row's id here, and its record. Raises NotTaken, or the ValidationError of ChatKit's types."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one of the first systems kept its records."""

    name: Literal["s1", "s2"]
    readers: Mapping[Kind, Reader]

    def record(self, kind: Kind, row: SourceRow) -> Record | Unreadable:
        """What is stored here for a row of theirs."""
        try:
            _check_owner(row)
            id_, record = self.readers[kind](row)
            check_storable(record)
            return Record(kind, _place(kind, row, id_), record.model_dump_json())
        except ValidationError as exc:
            # Not the error's own text, which quotes what readers wrote.
            faults = sorted({error["type"] for error in exc.errors(include_input=False, include_url=False)})
            reason = f"it is no {kind} that ChatKit knows ({', '.join(faults[:3])})"
        except (NotTaken, InvalidRequest) as exc:
            reason = str(exc)
        owned = kind == "thread" and row.user and row.tenant is not None
        return Unreadable(row.id, reason, key_of("thread", _place("thread", row, row.id)) if owned else b"")


def json_of(text: str) -> Any:
    """What JSON text says, also where it was written as a text within JSON. Raises NotTaken."""
    try:
        value = parsed(text)
        return parsed(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise NotTaken("it is not JSON") from exc


def parsed(text: str) -> Any:
    """What JSON text says, integers of any size included. Raises ValueError, also for NaN."""
    return from_json(text, allow_inf_nan=False)


def object_of(value: Any, what: str) -> Json:
    """`value`, which must be a JSON object. Raises NotTaken."""
    if not isinstance(value, dict):
        raise NotTaken(f"{what} is not a JSON object")
    return cast("Json", value)


def list_of(value: Any) -> list[Any]:
    """`value`, or nothing where it is no list."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def time_of(row: SourceRow) -> datetime:
    """When the row was written, in UTC. Raises NotTaken."""
    try:
        return datetime.fromisoformat(row.created_at)
    except ValueError as exc:
        raise NotTaken("it has no time that can be told") from exc


def timed(record: Model, row: SourceRow) -> Model:
    """The record with its time in UTC; one without an offset gives way to the row's, which has one."""
    said: datetime = getattr(record, "created_at")  # noqa: B009 - threads and items have one; BaseModel does not say so
    try:
        moment = time_of(row) if said.tzinfo is None else said.astimezone(UTC)
    except OverflowError as exc:
        raise NotTaken("it has no time that can be told") from exc
    return record.model_copy(update={"created_at": moment})


def _check_owner(row: SourceRow) -> None:
    """Returns where the row is somebody's. Raises NotTaken."""
    if row.lost:
        raise NotTaken(row.lost)
    if not row.user:
        raise NotTaken("it has no user")
    if row.tenant is None:
        raise NotTaken("its table does not say which tenant it belongs to")


def _place(kind: Kind, row: SourceRow, id_: str) -> Place:
    return (row.tenant or "", row.user, row.thread_id if kind == "item" else "", id_)
