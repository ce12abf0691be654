"""One request: read, held to limits, carried out, and answered in ChatKit's form."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from chatkit.server import NonStreamingResult, StreamingResult
from chatkit.types import (
    ChatKitReq,
    StreamingReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadStreamEvent,
)
from pydantic import BaseModel

from chatkit_rag.context import RequestContext
from chatkit_rag.protocol.begun import Prepare, begin
from chatkit_rag.protocol.engine import Engine
from chatkit_rag.protocol.events import to_json, to_sse
from chatkit_rag.protocol.operations import immediate, streaming
from chatkit_rag.protocol.requests import page_of, profile_of, read_request, site_of

_STREAMING: dict[str, Prepare] = {
    "threads.create": streaming.create_thread,
    "threads.add_user_message": streaming.add_user_message,
    "threads.add_client_tool_output": streaming.add_client_tool_output,
    "threads.add_structured_input": streaming.add_structured_input,
    "threads.retry_after_item": streaming.retry_after_item,
    "threads.custom_action": streaming.custom_action,
}

_IMMEDIATE: dict[str, Callable[[Engine, Any, RequestContext], Awaitable[BaseModel | None]]] = {
    "threads.sync_custom_action": immediate.sync_custom_action,
    "threads.get_by_id": immediate.get_thread,
    "threads.list": immediate.list_threads,
    "threads.update": immediate.update_thread,
    "threads.delete": immediate.delete_thread,
    "items.list": immediate.list_items,
    "items.feedback": immediate.give_feedback,
    "attachments.create": immediate.create_attachment,
    "attachments.delete": immediate.delete_attachment,
    "input.transcribe": immediate.transcribe,
}


async def process(engine: Engine, body: str | bytes, context: RequestContext) -> StreamingResult | NonStreamingResult:
    """The answer to the request that `body` holds.

    Raises:
        RequestError: it cannot be carried out; nothing was sent or stored.
        StoreUnavailable: the store does not answer.
    """
    request = read_request(body, engine.limits)
    context = replace(
        context,
        page=page_of(request.metadata, engine.limits),
        site=site_of(request.metadata.get("site"), context.principal),
        profile=profile_of(request.metadata, engine.limits),
        metadata=request.metadata,
        idempotency_key=_key_of(request, context),
    )
    if prepare := _STREAMING.get(request.type):
        events = await begin(engine, prepare, cast("StreamingReq", request), context)
        return StreamingResult(_frames(cast("AsyncGenerator[ThreadStreamEvent, None]", events)))
    answer = await _IMMEDIATE[request.type](engine, request, context)
    return NonStreamingResult(b"{}" if answer is None else to_json(answer))


def _key_of(request: ChatKitReq, context: RequestContext) -> str:
    """The header's key; else, for a message, the id that the client gave it."""
    if context.idempotency_key or not isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq):
        return context.idempotency_key
    named = request.metadata.get("client_message_id")
    return named if isinstance(named, str) else ""


async def _frames(events: AsyncGenerator[ThreadStreamEvent, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            for frame in to_sse(event):
                yield frame
