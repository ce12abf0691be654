"""What the parts of the contract share: capabilities, and how they look at a server."""

from typing import ClassVar

from chatkit.types import AssistantMessageItem, ThreadItem, UserMessageItem

from chatkit_rag.testing.endpoint import Refused
from chatkit_rag.testing.protocol_client import ProtocolClient
from chatkit_rag.testing.streamed_answer import StreamedAnswer

CAPABILITIES = {
    "retry": "another answer can be asked for, and takes the place of the old one",
    "aware_times": "every time says its offset from UTC",
    "clamped_limits": "a page's limit that is out of bounds is brought within 1..100",
    "clean_errors": "what cannot be done is a 4xx, or one error event in a whole stream; never a 5xx or a cut stream",
    "owners": "readers are kept apart; fixture `other_client`: a client that is another reader of the same server",
    "locked_threads": "a locked thread takes no messages; fixture `lock_thread`: an async function of a thread's id",
    "feedback": "thumbs are kept; fixture `read_feedback`: an async function of thread and item id, to the kind kept",
    "attachments": "files can be announced, sent and taken back; fixture `upload_file`: an async function of the "
    "`Attachment` and its bytes, which brings them to the server by whichever way it has",
    "transcription": "speech becomes text; attribute `speech`: the audio's Base64 and its media type",
    "client_tools": "the client's tools can be called; attribute `client_tool_question` makes the server call one",
    "structured_input": "readers can be asked questions; attribute `structured_question` makes the server ask some",
    "actions": "widgets have actions; attribute `widget_question` makes the server show one that sends `widget_action`",
    "sync_actions": "likewise, answered at once with the changed item",
    "idempotency": "requests with the same `Idempotency-Key` are carried out once",
}
"""What a server may be able to do, and what a subclass of the contract gives for it."""


class Part:
    """A part of the contract."""

    question: ClassVar[str] = "What is this about?"
    """A question that the server answers with a text, in pieces."""


async def items_of(client: ProtocolClient, thread_id: str) -> list[ThreadItem]:
    """All items of a thread, oldest first."""
    items: list[ThreadItem] = []
    after: str | None = None
    while True:
        page = await client.list_items(thread_id, order="asc", limit=100, after=after)
        items += page.data
        if not page.has_more or page.after == after:
            return items
        after = page.after


async def messages_of(client: ProtocolClient, thread_id: str) -> list[ThreadItem]:
    """A thread's messages, of either side, oldest first."""
    return messages(await items_of(client, thread_id))


def messages(items: list[ThreadItem]) -> list[ThreadItem]:
    """Those that are messages, of either side; servers may put tasks and the like between them."""
    return [item for item in items if isinstance(item, UserMessageItem | AssistantMessageItem)]


async def assert_refused(asked: StreamedAnswer) -> None:
    """The server refuses, either with a status or with an error in a whole stream, and answers nothing."""
    try:
        answer = await asked
    except Refused:
        return
    assert len(answer.errors) == 1, f"the server neither refuses nor tells an error: {answer.kinds}"
    assert answer.items == [], f"the server tells an error, and stores something all the same: {answer.kinds}"
