"""What keeps threads and their items: the contract that every store promises, and the base of those shipped here.

The rules that ChatKit's own interface leaves open:

- Everything belongs to `context.owner`. What is somebody else's behaves like what is not there.
- Items and threads come in the order in which they were first stored, whatever their times say.
- A cursor (`after`) is the id of the last row of the page before; one that is not in the list is NotFound.
- `limit` is clamped to 1..100. What is handed out is a copy; changing it changes nothing that is stored.
- Times come back aware, in UTC. A naive one is taken for local time, as ChatKit's own hooks make it.
- A write is there wholly or not at all, also when its caller is cancelled.
- What some store cannot hold is refused by all with InvalidRequest: see `stores.storable`. Under an id of that kind,
  nothing is ever found.
- A record that cannot be read, for it is damaged or of a newer version, is left out, and the log says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from chatkit import store as sdk
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel

from chatkit_rag import errors
from chatkit_rag.context import RequestContext
from chatkit_rag.stores.copies import copied
from chatkit_rag.stores.ids import new_id

_ID_PREFIXES: dict[sdk.StoreItemType, str] = {
    "thread": "thr",
    "message": "msg",
    "tool_call": "tc",
    "workflow": "wf",
    "task": "tsk",
    "attachment": "atc",
    "sdk_hidden_context": "shcx",
}

Timed = TypeVar("Timed", bound=BaseModel)


class NotFound(errors.NotFound, sdk.NotFoundError):
    """The thread, item or attachment is not there, or is somebody else's; ChatKit's own error, and ours."""

    def __init__(self, what: str, id_: str) -> None:
        super().__init__(f"no such {what}", details={what: id_})


class Store(Protocol):
    """The twelve methods that ChatKit asks of a store, with the promises of this module."""

    def generate_thread_id(self, context: RequestContext) -> str:
        """A new thread id."""
        ...

    def generate_item_id(self, item_type: sdk.StoreItemType, thread: ThreadMetadata, context: RequestContext) -> str:
        """A new item id."""
        ...

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """The thread without its items. Raises NotFound."""
        ...

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """Stores the thread, new or changed; its place in the list stays."""
        ...

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """A page of items, oldest first for `asc`, newest first for `desc`; empty for a thread that is not there.

        Raises NotFound for an `after` that is not in the thread.
        """
        ...

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """Stores the attachment's record, new or changed."""
        ...

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """The attachment's record. Raises NotFound."""
        ...

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """Removes the attachment's record; nothing happens where there is none."""
        ...

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """A page of the owner's threads. Raises NotFound for an `after` that is not theirs."""
        ...

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """Stores a new item behind the others; one with a known id keeps its place and is replaced.

        Raises NotFound where the thread is not there: items never bring a deleted thread back. Raises InvalidRequest
        for an item that says that it is of another thread.
        """
        ...

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """As `add_thread_item`."""
        ...

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """The item. Raises NotFound."""
        ...

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """Removes the thread and its items; nothing happens where there is none."""
        ...

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """Removes the item; nothing happens where there is none."""
        ...


@runtime_checkable
class Lifecycle(Protocol):
    """What a store may have besides: connections to open and close, and an answer to whether it is there."""

    async def open(self) -> None:
        """Makes the store ready; a second call does nothing. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Releases what `open` took; a second call does nothing."""
        ...

    async def ping(self) -> None:
        """Returns where the store can be read. Raises StoreUnavailable."""
        ...


@runtime_checkable
class PatchesThreads(Protocol):
    """A store that changes single fields of a thread in one step."""

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """Stores the given fields (`title`, `status`, `metadata`, `allowed_image_domains`), and leaves the others.

        Raises NotFound: a thread that was deleted is not brought back.
        """
        ...


@runtime_checkable
class KeepsFeedback(Protocol):
    """A store that keeps what readers think of answers."""

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """Stores `feedback` (`kind`, and what else came with it) for each item; the reader's last word counts.

        It goes with its item. Raises NotFound where one of the items is not there, and stores nothing then.
        """
        ...


@runtime_checkable
class KeepsLeases(Protocol):
    """A store that says, for all processes over it, whose turn a thread is in."""

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """Whether the thread is now `holder`'s, for `seconds` from now; taking it again prolongs it.

        Raises NotFound where the thread is not there.
        """
        ...

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """Frees the thread, if it is `holder`'s."""
        ...


NO_THREAD = ""
"""The thread of attachments that are being deleted: no thread is called so."""


@runtime_checkable
class ClaimsAttachments(Protocol):
    """A store that says, for all processes over it, which thread an attachment belongs to."""

    async def claim_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> bool:
        """Whether all of them belong to the thread now (`thread_id`); else nothing is changed.

        One that is not there, or belongs to another thread, is not to be had. The thread need not be there yet, and is
        `NO_THREAD` before a deletion. Of several claims at once, one gets an attachment.
        """
        ...

    async def release_attachments(self, attachment_ids: Sequence[str], thread_id: str, context: RequestContext) -> None:
        """Takes them out of the thread; those that are not in it are passed over."""
        ...


@runtime_checkable
class ListsAttachments(Protocol):
    """A store that knows all attachments of a reader."""

    async def load_attachments(self, context: RequestContext) -> Sequence[Attachment]:
        """The records of all attachments of `context.owner`, in no order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedRequest:
    """A request that carried an idempotency key."""

    fingerprint: str
    """What it said, in short: the same key with other words is a mistake of the client's."""
    busy_until: float
    """Seconds since the epoch: until then it is being carried out; over when that has passed."""
    thread_id: str = ""
    """The thread that it wrote to; empty while nothing was written."""
    item_id: str = ""
    """The item behind which its answer stands."""


@runtime_checkable
class RemembersRequests(Protocol):
    """A store that knows which requests were carried out already."""

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """None where `key` is new and now stands for `request`, for `seconds`; else the request that it stands for.

        A key whose request was given up before it wrote anything is new again. Of several at once, one gets None.
        """
        ...

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """Brings what is remembered under `key` up to date; nothing happens where nothing is."""
        ...

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """Makes `key` new again."""
        ...


@runtime_checkable
class UsesCache(Protocol):
    """A store that answers from a cache where it can, and does without where it cannot."""

    async def ping_cache(self) -> None:
        """Returns where the cache is used. Raises StoreUnavailable."""
        ...


async def patch_thread(store: Store, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
    """Changes single fields of a thread; where the store has no such step, by loading and saving it.

    Raises NotFound.
    """
    if isinstance(store, PatchesThreads):
        await store.patch_thread(thread_id, changes, context)
        return
    thread = await store.load_thread(thread_id, context)
    await store.save_thread(thread.model_copy(update=dict(changes)), context)


class BaseStore(sdk.Store[RequestContext]):
    """Base of the stores shipped here; being ChatKit's own too, they serve any ChatKit server."""

    def generate_thread_id(self, context: RequestContext) -> str:  # noqa: ARG002 - ChatKit's signature
        """An id that sorts by time and carries 120 random bits."""
        return new_id(_ID_PREFIXES["thread"])

    def generate_item_id(self, item_type: sdk.StoreItemType, thread: ThreadMetadata, context: RequestContext) -> str:  # noqa: ARG002 - ChatKit's signature
        """An id that sorts by time and carries 120 random bits."""
        return new_id(_ID_PREFIXES.get(item_type, "itm"))


def in_utc(record: Timed) -> Timed:
    """A deep copy of a thread or item whose `created_at` is aware, in UTC."""
    created_at: datetime = getattr(record, "created_at")  # noqa: B009 - every ChatKit record has one; BaseModel does not say so
    return copied(record).model_copy(update={"created_at": created_at.astimezone(UTC)})
