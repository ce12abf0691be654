"""What the parts of the contract share: capabilities, a few records, and how they look at a store."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from chatkit.types import (
    FileAttachment,
    InferenceOptions,
    Page,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTextContent,
)
from pydantic import BaseModel

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.base import Store

CAPABILITIES = {
    "owners": "readers are kept apart, and a context that names nobody is refused; `context_of` makes their contexts",
    "arrival_order": "rows come in the order in which they were first stored, whatever their times and ids say",
    "strict_cursors": "`after` is NotFound where it is not in the list",
    "clamped_limits": "a page's limit that is out of bounds is brought within 1..100",
    "copies": "changing what was stored, or handed out, changes nothing in the store, and storing changes no record",
    "utc": "times come back aware, in UTC, to the microsecond; naive ones are taken for local time",
    "metadata_only": "of a `Thread` that carries items, the metadata is kept",
    "no_orphans": "an item is NotFound where its thread is not there, and leaves nothing behind",
    "big_integers": "integers beyond 64 bits come back as they were",
    "refusals": "what some store cannot hold is InvalidRequest (NUL, NaN, infinity, half of a surrogate pair, what is "
    "no JSON, an item of another thread), and nothing is found under an id of that kind",
    "prefixes": "new ids begin as ChatKit's do: `thr_`, `msg_`, `tc_`, `tsk_`, `wf_`",
    "concurrent": "many may write at once, and nothing is lost",
    "whole_writes": "a write whose caller is cancelled is there wholly or not at all, and the store works on",
    "interrupted": "an item that was cut short keeps its mark (`chatkit_rag.stores.interrupted`)",
    "patches": "`PatchesThreads`: single fields of a thread are changed in one step",
    "feedback": "`KeepsFeedback`; fixture `read_feedback`: an async function of context, thread and item id, to the "
    "kind kept, or None",
    "leases": "`KeepsLeases`: one holder at a time has a thread",
    "idempotency": "`RemembersRequests`: a request is carried out once",
    "turns": "`chatkit_rag.stores.turns.BeginsTurns`, with the two before: a turn begins in one step, within quotas, "
    "and ends in one",
    "export": "`ListsHoldings`: all that is held of a reader is told",
    "deletion": "`DeletesUsers`: a reader is forgotten, and what is under way brings nothing back",
    "retention": "`Purges`: what is older than it may be is found, and goes",
    "lifecycle": "`Lifecycle`: `open`, `close` and `ping`",
}
"""What a store may be able to do, and what a subclass of the contract gives for it."""

T0 = datetime(2025, 3, 1, 12, tzinfo=UTC)

Record = TypeVar("Record", bound=BaseModel)


class Part:
    """A part of the contract."""

    def context_of(self, user: str, tenant: str = "") -> Any:
        """The context of a reader's request; overridden for stores that want another kind of context."""
        return RequestContext(principal=Principal(user, tenant=tenant))

    @property
    def ada(self) -> Any:
        """The reader that most of what is stored here belongs to."""
        return self.context_of("ada", "morning")


def moment(number: int = 0) -> datetime:
    """A moment that is later the greater the number."""
    return T0 + timedelta(seconds=number)


def thread(id_: str = "thr_1", number: int = 0, **fields: Any) -> ThreadMetadata:
    """A thread, the later the greater its number."""
    given: dict[str, Any] = {"id": id_, "created_at": moment(number)} | fields
    return ThreadMetadata(**given)


def message(id_: str = "msg_1", text: str = "What is a node?", number: int = 0, **fields: Any) -> UserMessageItem:
    """A message in the thread `thr_1`, the later the greater its number."""
    given: dict[str, Any] = {
        "id": id_,
        "thread_id": "thr_1",
        "created_at": moment(number),
        "content": [UserMessageTextContent(text=text)],
        "inference_options": InferenceOptions(),
    }
    return UserMessageItem(**(given | fields))


def text_of(item: ThreadItem) -> str:
    """The text of a message."""
    assert isinstance(item, UserMessageItem)
    return item.content[0].text


def file(id_: str = "atc_1", name: str = "a.pdf") -> FileAttachment:
    """A file's record."""
    return FileAttachment(id=id_, name=name, mime_type="application/pdf", metadata={"bytes": 3})


def shuffled(count: int, prefix: str = "msg") -> list[str]:
    """So many ids, which do not sort as they come."""
    return [f"{prefix}_{(number * 7919) % 1009:04}" for number in range(count)]


async def fill(store: Store, context: Any, *, items: int = 0, id_: str = "thr_1", rising: bool = True) -> list[str]:
    """A thread with so many messages; their ids do not sort as they arrive, and their times rise or are the same."""
    await store.save_thread(thread(id_), context)
    ids = shuffled(items)
    for number, name in enumerate(ids):
        sent = message(name, name, number if rising else 0, thread_id=id_)
        await store.add_thread_item(id_, sent, context)
    return ids


def same(found: BaseModel, stored: BaseModel) -> bool:
    """Whether two records are of one type, of one moment, and otherwise the same JSON."""
    return type(found) is type(stored) and told(found) == told(stored)


def told(record: BaseModel) -> dict[str, Any]:
    """A record as JSON has it, with its time as a moment, which may be told in many ways."""
    document = record.model_dump(mode="json")
    created_at: datetime | None = getattr(record, "created_at", None)
    return document if created_at is None else document | {"created_at": created_at.timestamp()}


async def assert_refused(error: type[Exception], *calls: Coroutine[Any, Any, Any]) -> None:
    """Each of the calls raises `error`."""
    try:
        for call in calls:
            with pytest.raises(error):
                await call
    finally:
        for call in calls:
            call.close()  # so that nothing is said of those behind the first that did not


async def items_of(store: Store, context: Any, id_: str = "thr_1", order: str = "asc", size: int = 100) -> list[str]:
    """The ids of all items of a thread."""
    return await _ids(lambda after: store.load_thread_items(id_, after, size, order, context))


async def threads_of(store: Store, context: Any, order: str = "asc", size: int = 100) -> list[str]:
    """The ids of all threads of a reader."""
    return await _ids(lambda after: store.load_threads(size, after, order, context))


async def _ids(load: Callable[[str | None], Awaitable[Page[Any]]]) -> list[str]:
    return [row.id async for page in pages(load) for row in page.data]


async def pages(load: Callable[[str | None], Awaitable[Page[Record]]]) -> AsyncIterator[Page[Record]]:
    """The pages of a list, each asked for with the cursor of the one before; a list never ends that goes round."""
    seen: set[str | None] = set()
    after: str | None = None
    while after not in seen:
        seen.add(after)
        page = await load(after)
        yield page
        if not page.has_more:
            return
        after = page.after
    raise AssertionError(f"the cursor {after!r} was given twice")
