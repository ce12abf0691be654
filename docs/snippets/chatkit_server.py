from collections.abc import AsyncIterator
from datetime import datetime

from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag import ChatApp, Principal, RequestContext, SQLiteStore


class EchoServer(ChatKitServer[RequestContext]):
    """A server as ChatKit's documentation has it: nothing in it knows of this package but its context."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        said = "".join(part.text for part in input_user_message.content) if input_user_message else ""
        yield ThreadItemDoneEvent(
            item=AssistantMessageItem(
                id=self.store.generate_item_id("message", thread, context),
                thread_id=thread.id,
                created_at=datetime.now(),
                content=[AssistantMessageContent(text=said)],
            )
        )


chat = ChatApp(EchoServer(SQLiteStore("threads.db")), authenticate=lambda _request: Principal("ada"))
