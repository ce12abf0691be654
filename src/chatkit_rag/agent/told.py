"""What the tools of a run tell the reader by themselves, among what the run does, in the order in which it happens.

Tools speak through ChatKit's `AgentContext`: `stream`, `stream_widget`, workflows and `client_tool_call` mean what they
mean in its own `stream_agent_response`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from agents import RunItemStreamEvent, StreamEvent
from agents.items import ToolCallItem
from chatkit.types import (
    ClientToolCallItem,
    DurationSummary,
    ProgressUpdateEvent,
    ThreadItemDoneEvent,
    ThreadStreamEvent,
)

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.instructions import languages_of
from chatkit_rag.agent.phrases import READING, SEARCHING, in_language
from chatkit_rag.agent.tools import OUTLINE, READ_PAGE, SEARCH_COURSE
from chatkit_rag.context import utc_now

_PROGRESS = {SEARCH_COURSE: ("search", SEARCHING), READ_PAGE: ("book-open", READING), OUTLINE: ("book-open", READING)}


class _End:
    """Nothing follows."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure


async def with_told(
    happenings: AsyncGenerator[StreamEvent, None], turn: TurnContext
) -> AsyncGenerator[StreamEvent | ThreadStreamEvent, None]:
    """The run's events, and those of the thread that its tools tell meanwhile; what the run raises, at its end.

    Closing it closes `happenings`, and returns when that is done.
    """
    told = turn.told

    async def pump() -> None:
        failure: Exception | None = None
        try:
            async with aclosing(happenings):
                async for event in happenings:
                    told.put_nowait(event)
        except Exception as exc:  # noqa: BLE001 - raised again where the events are taken
            failure = exc
        told.put_nowait(_End(failure))

    # Not the app's: it ends with this generator, in any case.
    pumping = asyncio.ensure_future(pump())
    try:
        while not isinstance(event := await told.get(), _End):
            yield event
        if event.failure is not None:
            raise event.failure
    finally:
        pumping.cancel()
        await asyncio.wait({pumping})


def progress(event: RunItemStreamEvent, turn: TurnContext) -> list[ThreadStreamEvent]:
    """What the reader is told of a tool that begins; of a site's own, nothing but what it tells by itself."""
    name = _called(event)
    if name not in _PROGRESS:
        return []
    icon, phrase = _PROGRESS[name]
    text = in_language(phrase, languages_of(turn.request_context))
    return [ProgressUpdateEvent.model_validate({"icon": icon, "text": text})]


def end_workflow(turn: TurnContext) -> list[ThreadStreamEvent]:
    """Closes the workflow that tools have told of, where there is one: the answer's text begins."""
    item, turn.workflow_item = turn.workflow_item, None
    if item is None:
        return []
    if item.workflow.summary is None:
        begun = item.created_at
        now = utc_now() if begun.tzinfo else datetime.now()  # noqa: DTZ005, TID251 - ChatKit's own times are local
        item.workflow.summary = DurationSummary(duration=int((now - begun).total_seconds()))
    item.workflow.expanded = False
    return [ThreadItemDoneEvent(item=item)]


async def leave_workflow(turn: TurnContext) -> None:
    """Stores the workflow that tools have left open at the end of a run: a later turn may go on with it."""
    if turn.workflow_item is not None:
        await turn.store.add_thread_item(turn.thread.id, turn.workflow_item, turn.request_context)


def client_tool_call(turn: TurnContext, called: RunItemStreamEvent | None) -> list[ThreadStreamEvent]:
    """What the reader's browser is asked to do, where a tool has asked for it; `called` is the call that led to it."""
    if turn.client_tool_call is None:
        return []
    call_id = _call_id(called) if called else ""
    item = ClientToolCallItem(
        id=turn.generate_id("tool_call"),
        thread_id=turn.thread.id,
        created_at=utc_now(),
        call_id=call_id or turn.generate_id("tool_call"),
        name=turn.client_tool_call.name,
        arguments=turn.client_tool_call.arguments,
    )
    return [ThreadItemDoneEvent(item=item)]


def _called(event: RunItemStreamEvent) -> str:
    return str(getattr(event.item.raw_item, "name", "")) if isinstance(event.item, ToolCallItem) else ""


def _call_id(event: RunItemStreamEvent) -> str:
    return str(getattr(event.item.raw_item, "call_id", ""))
