"""What would otherwise be done during the first request.

ChatKit's types name each other before they are defined, and pydantic completes each of them when it is first used.
That takes it ten milliseconds a type. What is looked up once, in the SDKs as well, is a few milliseconds more.
"""

from collections.abc import AsyncIterator

from chatkit import types
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem
from pydantic import BaseModel

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.message import stream_text
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Passage
from chatkit_rag.protocol.engine import drive
from chatkit_rag.protocol.process import process
from chatkit_rag.stores.memory import MemoryStore

_REQUEST = (
    b'{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"Hello?"}],'
    b'"attachments":[],"inference_options":{}}}}'
)
_PASSAGE = Passage(id="", path="/", anchor="", title="", heading_path=("",), text="", url="/")


def complete_types() -> None:
    """Completes ChatKit's types; a second call finds nothing to do."""
    for kind in vars(types).values():
        is_theirs = getattr(kind, "__module__", "") == types.__name__
        if is_theirs and isinstance(kind, type) and issubclass(kind, BaseModel) and not kind.__pydantic_complete__:
            kind.model_rebuild()


async def rehearse() -> None:
    """One answer, for nobody: over a store of its own, without a search, a model, or a site's hooks."""
    result = await process(drive(_Rehearsal(MemoryStore())), _REQUEST, RequestContext(principal=Principal("nobody")))
    if isinstance(result, StreamingResult):
        async for _frame in result:
            pass


class _Rehearsal(ChatKitServer[RequestContext]):
    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,  # noqa: ARG002 - ChatKit's signature
        context: RequestContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        turn = TurnContext(thread=thread, store=self.store, request_context=context, passages=[_PASSAGE])
        async for event in stream_text("Hello [1].", turn):
            yield event
