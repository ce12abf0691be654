"""The operations that are answered by a stream: what each checks, and what it begins.

Everything that can be checked is checked before anything is stored or sent: what is raised here can still become an
HTTP status. `begun.begin` stores what a `Beginning` holds, and runs its turn.
"""

from collections.abc import Sequence

from chatkit.types import (
    Attachment,
    ClientToolCallItem,
    StructuredInputItem,
    ThreadCreatedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsRetryAfterItemReq,
    UserMessageInput,
    UserMessageItem,
)

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import Conflict, InvalidRequest, Unsupported
from chatkit_rag.protocol.beginning import Beginning, Respond
from chatkit_rag.protocol.engine import Engine, overrides
from chatkit_rag.protocol.events import public_thread
from chatkit_rag.protocol.hook_store import for_hooks
from chatkit_rag.protocol.items import find_item
from chatkit_rag.protocol.operations.files import files_to_send
from chatkit_rag.protocol.requests import selection_of
from chatkit_rag.protocol.structured import with_answers
from chatkit_rag.protocol.threads import items_after, open_thread, sender_of
from chatkit_rag.stores.paging import DEFAULT_PAGE


async def create_thread(engine: Engine, request: ThreadsCreateReq, context: RequestContext) -> Beginning:
    """`threads.create`: a new thread with its first question, and the answer."""
    files = await files_to_send(engine, request.params.input, context)
    thread = ThreadMetadata(id=engine.store.generate_thread_id(context), created_at=utc_now())
    question = _question(engine, thread, request.params.input, files, context)
    return Beginning(
        thread=thread,
        respond=_answer(engine, question),
        is_new=True,
        files=question.attachments,
        item=question,
        behind=question.id,
        known=[ThreadCreatedEvent(thread=public_thread(thread)), ThreadItemDoneEvent(item=question)],
    )


async def add_user_message(engine: Engine, request: ThreadsAddUserMessageReq, context: RequestContext) -> Beginning:
    """`threads.add_user_message`: the next question of a thread, and the answer.

    The thread is looked at when the question is stored, in the same step.
    """
    thread = ThreadMetadata(id=request.params.thread_id, created_at=utc_now())
    files = await files_to_send(engine, request.params.input, context, within=thread.id)
    question = _question(engine, thread, request.params.input, files, context)
    return Beginning(
        thread=thread,
        respond=_answer(engine, question),
        files=question.attachments,
        item=question,
        behind=question.id,
        known=[ThreadItemDoneEvent(item=question)],
    )


async def retry_after_item(engine: Engine, request: ThreadsRetryAfterItemReq, context: RequestContext) -> Beginning:
    """`threads.retry_after_item`: another answer to a question; what followed it goes when the new answer begins."""
    thread = await open_thread(engine, request.params.thread_id, context)
    question = await find_item(engine.store, thread.id, request.params.item_id, context)
    if not isinstance(question, UserMessageItem):
        raise InvalidRequest("only a reader's message can be answered again", details={"item_id": question.id})
    followed = [item async for item in items_after(engine, thread.id, question.id, context)]
    return Beginning(thread=thread, respond=_answer(engine, question), behind=question.id, replaced=followed)


async def add_client_tool_output(
    engine: Engine, request: ThreadsAddClientToolOutputReq, context: RequestContext
) -> Beginning:
    """`threads.add_client_tool_output`: what the client's tool returned, and how the answer goes on.

    The result belongs to the newest call that waits for one: the request names none.
    """
    thread = await open_thread(engine, request.params.thread_id, context)
    newest = await engine.store.load_thread_items(thread.id, None, DEFAULT_PAGE, "desc", context)
    call = next((item for item in newest.data if isinstance(item, ClientToolCallItem)), None)
    if call is None or call.status != "pending":
        raise Conflict("no tool call waits for a result", details={"thread_id": thread.id})
    completed = call.model_copy(update={"status": "completed", "output": request.params.result})
    return Beginning(thread=thread, respond=_answer(engine, None), item=completed, behind=call.id)


async def add_structured_input(
    engine: Engine, request: ThreadsAddStructuredInputReq, context: RequestContext
) -> Beginning:
    """`threads.add_structured_input`: the reader's answers to questions, and how the answer goes on."""
    thread = await open_thread(engine, request.params.thread_id, context)
    item = await find_item(engine.store, thread.id, request.params.item_id, context)
    if not isinstance(item, StructuredInputItem) or item.status != "pending":
        raise Conflict("these questions are not waiting for answers", details={"item_id": request.params.item_id})
    answered = with_answers(item, request.params.input)
    known = [ThreadItemReplacedEvent(item=answered)]
    return Beginning(thread=thread, respond=_answer(engine, None), item=answered, behind=answered.id, known=known)


async def custom_action(engine: Engine, request: ThreadsCustomActionReq, context: RequestContext) -> Beginning:
    """`threads.custom_action`: what a widget's button does, streamed."""
    thread = await open_thread(engine, request.params.thread_id, context)
    sender = await sender_of(engine, thread, request, context)
    action = request.params.action
    if not overrides(engine.server, "action"):
        raise Unsupported("this server has no actions")
    return Beginning(
        thread=thread, respond=lambda thread, context: engine.server.action(thread, action, sender, context)
    )


def _answer(engine: Engine, question: UserMessageItem | None) -> Respond:
    asked = for_hooks(question) if question else None
    return lambda thread, context: engine.server.respond(thread, asked, context)


def _question(
    engine: Engine,
    thread: ThreadMetadata,
    message: UserMessageInput,
    files: Sequence[Attachment],
    context: RequestContext,
) -> UserMessageItem:
    return UserMessageItem(
        id=engine.store.generate_item_id("message", thread, context),
        thread_id=thread.id,
        created_at=utc_now(),
        content=message.content,
        attachments=[file.model_copy(update={"thread_id": thread.id}) for file in files],
        quoted_text=selection_of(message, engine.limits),
        inference_options=message.inference_options,
    )
