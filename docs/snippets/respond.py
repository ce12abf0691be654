from collections.abc import AsyncGenerator

from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

from chatkit_rag import RagChatServer, RequestContext
from chatkit_rag.agent.history import message_text


class TitledServer(RagChatServer):
    """Names a thread after its first question."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """The answer; what was changed of the thread is stored, and told to the client, by itself."""
        if thread.title is None and input_user_message is not None:
            thread.title = message_text(input_user_message)[:60]
        async for event in self.answer(thread, input_user_message, context):
            yield event
