"""What leaves the server: which events, and in which form. Pure."""

from datetime import UTC
from functools import lru_cache

import orjson
from chatkit.types import (
    AssistantMessageContentPartTextDelta,
    HiddenContextItem,
    Page,
    SDKHiddenContextItem,
    Thread,
    ThreadItem,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
)
from pydantic import BaseModel

from chatkit_rag.agent.pieces import pieces_of

_Items = Page[ThreadItem]
"""Named once: looking the class up takes longer than making one of its objects."""


def to_json(answer: BaseModel) -> bytes:
    """ChatKit's JSON: no nulls, and nothing of what a site keeps with its attachments for itself."""
    # As what it is, not as what it is declared as: an item that was cut short carries a field more.
    return answer.model_dump_json(
        by_alias=True, exclude_none=True, context={"exclude_metadata": True}, serialize_as_any=True
    ).encode()


def to_sse(event: ThreadStreamEvent) -> list[bytes]:
    """The event's frame of the stream; for text that came in pieces, a frame for each of them."""
    if type(event) is ThreadItemUpdatedEvent and type(event.update) is AssistantMessageContentPartTextDelta:
        return _delta_frames(event.item_id, event.update)
    return [b"data: " + to_json(event) + b"\n\n"]


def _delta_frames(item_id: str, update: AssistantMessageContentPartTextDelta) -> list[bytes]:
    """Text, which nearly every frame is: the bytes that `to_json` makes, at a fraction of the cost."""
    head = _delta_head(item_id, update.content_index)
    return [head + orjson.dumps(piece) + b"}}\n\n" for piece in pieces_of(update.delta)]


@lru_cache(maxsize=1024)  # of answers under way
def _delta_head(item_id: str, index: int) -> bytes:
    return (
        b'data: {"type":"thread.item.updated","item_id":%b,"update":'
        b'{"type":"assistant_message.content_part.text_delta","content_index":%d,"delta":'
        % (orjson.dumps(item_id), index)
    )


def is_hidden(item: ThreadItem) -> bool:
    """Whether the item is for the model only."""
    return isinstance(item, HiddenContextItem | SDKHiddenContextItem)


def visible_items(page: Page[ThreadItem]) -> Page[ThreadItem]:
    """The page without hidden items; the next one begins behind the last that is shown, whose id is the cursor.

    Only a page that shows nothing keeps its own.
    """
    shown = [item for item in page.data if not is_hidden(item)]
    after = shown[-1].id if page.after and shown else page.after
    return page.model_copy(update={"data": shown, "after": after})


def public_thread(thread: ThreadMetadata, items: Page[ThreadItem] | None = None) -> Thread:
    """The thread as clients see it: its private metadata stays here, and the cursor of a page that shows nothing."""
    shown = visible_items(items) if items else _Items()
    return Thread(
        id=thread.id,
        title=thread.title,
        created_at=thread.created_at.astimezone(UTC),
        status=thread.status,
        allowed_image_domains=thread.allowed_image_domains,
        items=shown if shown.data else _Items(has_more=shown.has_more),
    )
