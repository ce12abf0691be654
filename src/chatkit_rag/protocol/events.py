"""What leaves the server: which events, in which form, and what a message becomes as its updates arrive. Pure."""

import orjson
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    HiddenContextItem,
    Page,
    SDKHiddenContextItem,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdate,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
)
from pydantic import BaseModel


def to_json(answer: BaseModel) -> bytes:
    """ChatKit's JSON: no nulls, and nothing of what a site keeps with its attachments for itself."""
    return answer.model_dump_json(by_alias=True, exclude_none=True, context={"exclude_metadata": True}).encode()


def to_sse(event: ThreadStreamEvent) -> bytes:
    """One frame of the stream."""
    if type(event) is ThreadItemUpdatedEvent and type(event.update) is AssistantMessageContentPartTextDelta:
        return _delta_frame(event.item_id, event.update)
    return b"data: " + to_json(event) + b"\n\n"


def _delta_frame(item_id: str, update: AssistantMessageContentPartTextDelta) -> bytes:
    """A piece of text, which nearly every frame is: the bytes that `to_json` makes, at a quarter of the cost."""
    return b"".join(
        (
            b'data: {"type":"thread.item.updated","item_id":',
            orjson.dumps(item_id),
            b',"update":{"type":"assistant_message.content_part.text_delta","content_index":%d,"delta":'
            % update.content_index,
            orjson.dumps(update.delta),
            b"}}\n\n",
        )
    )


def is_hidden(item: ThreadItem) -> bool:
    """Whether the item is for the model only."""
    return isinstance(item, HiddenContextItem | SDKHiddenContextItem)


def is_visible(event: ThreadStreamEvent) -> bool:
    """Whether the client may see the event."""
    if isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent | ThreadItemReplacedEvent):
        return not is_hidden(event.item)
    return True


def visible_items(page: Page[ThreadItem]) -> Page[ThreadItem]:
    """The page without hidden items; its cursor stays, so that the next page begins where this one ended."""
    return page.model_copy(update={"data": [item for item in page.data if not is_hidden(item)]})


def public_thread(thread: ThreadMetadata, items: Page[ThreadItem] | None = None) -> Thread:
    """The thread as clients see it: its private metadata stays here."""
    return Thread(
        id=thread.id,
        title=thread.title,
        created_at=thread.created_at,
        status=thread.status,
        allowed_image_domains=thread.allowed_image_domains,
        items=visible_items(items) if items else Page[ThreadItem](),
    )


def apply_update(item: ThreadItem, update: ThreadItemUpdate) -> None:
    """Brings an unfinished message in step with an update of it; other items are left as they are."""
    if not isinstance(item, AssistantMessageItem):
        return
    match update:
        case AssistantMessageContentPartAdded() | AssistantMessageContentPartDone():
            _part(item, update.content_index)
            # A list of its own, which further annotations go into; what is in it is never changed.
            kept = {"annotations": list(update.content.annotations)}
            item.content[update.content_index] = update.content.model_copy(update=kept)
        case AssistantMessageContentPartTextDelta():
            _part(item, update.content_index).text += update.delta
        case AssistantMessageContentPartAnnotationAdded():
            _part(item, update.content_index).annotations.insert(update.annotation_index, update.annotation)
        case _:
            pass


def has_text(item: AssistantMessageItem) -> bool:
    """Whether there is anything to read in the message."""
    return any(part.text.strip() for part in item.content)


def _part(item: AssistantMessageItem, index: int) -> AssistantMessageContent:
    while len(item.content) <= index:
        item.content.append(AssistantMessageContent(text=""))
    return item.content[index]
