"""ChatKit's own server, mounted and stored as its documentation shows: what others run, to try our tests on."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from chatkit.actions import Action
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.store import AttachmentStore, NotFoundError, Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    Attachment,
    AttachmentCreateParams,
    AudioInput,
    ClientToolCallItem,
    FeedbackKind,
    FileAttachment,
    HiddenContextItem,
    Page,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)
from chatkit.widgets import WidgetTemplate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

TOOL_QUESTION, STRUCTURED_QUESTION, WIDGET_QUESTION = "Call the tool", "Ask me", "Show the button"
MORE = Action[str, Any](type="more", payload={})

BUTTON = WidgetTemplate(
    {
        "version": "1.0",
        "name": "button",
        "template": '{"type": "Card", "children": [{"type": "Button", "label": "More", '
        '"onClickAction": {"type": "more", "payload": {}}}]}',
        "jsonSchema": {},
    }
)

Events = list[ThreadStreamEvent]


class SmallStore(Store[Any]):
    """Threads and items in dictionaries, in the order of their arrival."""

    def __init__(self) -> None:
        self.threads: dict[str, ThreadMetadata] = {}
        self.items: dict[str, dict[str, ThreadItem]] = {}
        self.attachments: dict[str, Attachment] = {}

    async def load_thread(self, thread_id: str, context: Any) -> ThreadMetadata:
        return _found(self.threads, thread_id).model_copy(deep=True)

    async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:
        self.threads[thread.id] = thread.model_copy(deep=True)

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Page[ThreadMetadata]:
        return self.page(list(self.threads.values()), after, limit, order)

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        self.threads.pop(thread_id, None)
        self.items.pop(thread_id, None)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Any
    ) -> Page[ThreadItem]:
        return self.page(list(self.items.get(thread_id, {}).values()), after, limit, order)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        self.items.setdefault(thread_id, {})[item.id] = item.model_copy(deep=True)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:
        self.items.setdefault(thread_id, {})[item.id] = item.model_copy(deep=True)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:
        return _found(self.items.get(thread_id, {}), item_id).model_copy(deep=True)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        self.items.get(thread_id, {}).pop(item_id, None)

    async def save_attachment(self, attachment: Attachment, context: Any) -> None:
        self.attachments[attachment.id] = attachment

    async def load_attachment(self, attachment_id: str, context: Any) -> Attachment:
        return _found(self.attachments, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        self.attachments.pop(attachment_id, None)

    def page(self, rows: list[Any], after: str | None, limit: int, order: str) -> Page[Any]:
        rows = rows if order == "asc" else rows[::-1]
        start = [row.id for row in rows].index(after) + 1 if after else 0
        data = [row.model_copy(deep=True) for row in rows[start : start + limit]]
        has_more = len(rows) > start + limit
        return Page(data=data, has_more=has_more, after=data[-1].id if has_more else None)


class Files(AttachmentStore[Any]):
    """Names files and forgets them."""

    async def create_attachment(self, input: AttachmentCreateParams, context: Any) -> FileAttachment:
        id_ = self.generate_attachment_id(input.mime_type, context)
        return FileAttachment(id=id_, name=input.name, mime_type=input.mime_type)

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        pass


class StockServer(ChatKitServer[Any]):
    """ChatKit's server with its hooks, saying always the same; `tamper` may spoil the events of an answer."""

    def __init__(self, store: SmallStore | None = None, *, tamper: Callable[[Events], Events] = list) -> None:
        super().__init__(store or SmallStore(), Files())
        self.tamper = tamper
        self.feedback: dict[tuple[str, str], FeedbackKind] = {}

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        asked = input_user_message.content[0].text if input_user_message else ""
        if asked in ITEMS:
            yield ThreadItemDoneEvent(item=ITEMS[asked](thread))
            return
        yield ThreadItemDoneEvent(item=hidden(thread))
        for event in self.tamper(answer(thread, self.store.generate_item_id("message", thread, context))):
            yield event

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        for event in answer(thread, self.store.generate_item_id("message", thread, context)):
            yield event

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Any
    ) -> SyncCustomActionResponse:
        return SyncCustomActionResponse(updated_item=sender)

    async def add_feedback(self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Any) -> None:
        self.feedback.update({(thread_id, item_id): feedback for item_id in item_ids})

    async def transcribe(self, audio_input: AudioInput, context: Any) -> TranscriptionResult:
        return TranscriptionResult(text=f"{len(audio_input.data)} bytes of {audio_input.media_type}")


def app_of(server: ChatKitServer[Any]) -> Starlette:
    """The mount of ChatKit's documentation."""

    async def chatkit(request: Request) -> Response:
        result = await server.process(await request.body(), {"headers": dict(request.headers)})
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    return Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"])])


def answer(thread: ThreadMetadata, item_id: str) -> Events:
    """The events of a short answer: added, begun, two pieces, ended, done."""
    item = AssistantMessageItem(id=item_id, thread_id=thread.id, created_at=datetime.now(UTC), content=[])
    whole = AssistantMessageContent(text="A node is a process.")
    updates = [
        AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="")),
        AssistantMessageContentPartTextDelta(content_index=0, delta="A node is "),
        AssistantMessageContentPartTextDelta(content_index=0, delta="a process."),
        AssistantMessageContentPartDone(content_index=0, content=whole),
    ]
    return [
        ThreadItemAddedEvent(item=item),
        *(ThreadItemUpdatedEvent(item_id=item_id, update=update) for update in updates),
        ThreadItemDoneEvent(item=item.model_copy(update={"content": [whole]})),
    ]


def hidden(thread: ThreadMetadata) -> HiddenContextItem:
    """What no client may see."""
    place = {"thread_id": thread.id, "created_at": datetime.now(UTC)}
    return HiddenContextItem(id=f"hidden_{uuid4().hex}", content="for the model", **place)


def tool_call(thread: ThreadMetadata) -> ClientToolCallItem:
    place = {"thread_id": thread.id, "created_at": datetime.now(UTC)}
    return ClientToolCallItem(id="tc_1", call_id="call_1", name="measure", arguments={}, **place)


def questions(thread: ThreadMetadata) -> StructuredInputItem:
    options = [StructuredInputMultipleChoiceOption(value=value) for value in ("a", "b")]
    inputs = [
        StructuredInputMultipleChoice(id="which", question="Which?", options=options),
        StructuredInputFreeform(id="why", question="Why?"),
    ]
    place = {"thread_id": thread.id, "created_at": datetime.now(UTC)}
    return StructuredInputItem(id="si_1", inputs=inputs, **place)


def button(thread: ThreadMetadata) -> WidgetItem:
    place = {"thread_id": thread.id, "created_at": datetime.now(UTC)}
    return WidgetItem(id="wid_1", widget=BUTTON.build(), **place)


ITEMS: dict[str, Callable[[ThreadMetadata], ThreadItem]] = {
    TOOL_QUESTION: tool_call,
    STRUCTURED_QUESTION: questions,
    WIDGET_QUESTION: button,
}
"""What a question makes instead of an answer."""


def _found(rows: dict[str, Any], id_: str) -> Any:
    if id_ not in rows:
        raise NotFoundError(id_)
    return rows[id_]
