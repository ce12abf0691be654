"""Two ChatKit servers by the same hooks: one of ours, and one that was written for ChatKit's own `process`."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from chatkit.actions import Action
from chatkit.server import ChatKitServer
from chatkit.store import AttachmentStore
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    AudioInput,
    FeedbackKind,
    FileAttachment,
    ImageAttachment,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.server import RagChatServer

Events = AsyncIterator[ThreadStreamEvent]
Respond = Callable[[ThreadMetadata, UserMessageItem | None, RequestContext], Events]


async def nothing(*_arguments: Any) -> Events:
    """An answer of no events."""
    for event in ():
        yield event


class Hooked(ChatKitServer[RequestContext]):
    """Hooks that the test puts in, and what they were given."""

    answering: Respond = staticmethod(nothing)
    acting: Callable[..., Events] = staticmethod(nothing)
    acting_at_once: Callable[..., SyncCustomActionResponse] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: list[tuple[UserMessageItem | None, RequestContext]] = []
        self.pressed: list[tuple[Action[str, Any], WidgetItem | None]] = []
        self.feedback: list[tuple[str, list[str], FeedbackKind, RequestContext]] = []
        self.audio: list[AudioInput] = []
        self.cancelled: list[list[ThreadItem]] = []

    def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> Events:
        self.asked.append((input_user_message, context))
        return self.answering(thread, input_user_message, context)

    def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> Events:
        self.pressed.append((action, sender))
        return self.acting(thread, action, sender, context)

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
    ) -> SyncCustomActionResponse:
        self.pressed.append((action, sender))
        assert self.acting_at_once is not None
        return self.acting_at_once(sender)

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: RequestContext
    ) -> None:
        self.feedback.append((thread_id, item_ids, feedback, context))

    async def transcribe(self, audio_input: AudioInput, context: RequestContext) -> TranscriptionResult:
        self.audio.append(audio_input)
        return TranscriptionResult(text="as it was spoken")

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: RequestContext
    ) -> None:
        self.cancelled.append(pending_items)


class Ours(Hooked, RagChatServer):
    """A subclass of `RagChatServer`."""


class Stock(Hooked):
    """A server that knows nothing of this package."""


class Files(AttachmentStore[RequestContext]):
    """Uploads in two phases, with something in the records that is nobody else's business."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def create_attachment(self, input: AttachmentCreateParams, context: RequestContext) -> Attachment:
        id_ = self.generate_attachment_id(input.mime_type, context)
        fields: dict[str, Any] = {
            "id": id_,
            "name": input.name,
            "mime_type": input.mime_type,
            "metadata": {"bucket": "private"},
            "upload_descriptor": AttachmentUploadDescriptor.model_validate(
                {"url": f"https://files.test/{id_}", "method": "PUT", "headers": {"X-Signed": "yes"}}
            ),
        }
        if input.mime_type.startswith("image/"):
            return ImageAttachment(preview_url=f"https://files.test/{id_}/preview", **fields)
        return FileAttachment(**fields)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        self.deleted.append(attachment_id)


def said(thread: ThreadMetadata, text: str, id_: str = "reply") -> AssistantMessageItem:
    """A message of the assistant's."""
    content = [AssistantMessageContent(text=text)]
    return AssistantMessageItem(id=id_, thread_id=thread.id, created_at=utc_now(), content=content)


def says(text: str) -> Respond:
    """A hook that says always the same."""

    async def answer(thread: ThreadMetadata, _message: Any, _context: Any) -> Events:
        yield ThreadItemDoneEvent(item=said(thread, text))

    return answer


def yields(*make: Callable[[ThreadMetadata], ThreadStreamEvent]) -> Respond:
    """A hook of these events, each made for the thread that it is in."""

    async def answer(thread: ThreadMetadata, _message: Any, _context: Any) -> Events:
        for one in make:
            yield one(thread)

    return answer
