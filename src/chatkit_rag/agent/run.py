"""One run of the agent, as ChatKit events.

Our own translation of the SDK's stream, beside ChatKit's: it stops the run when it is closed, gives items our own
ids, and takes citations from the turn's passages only.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from agents import (
    Agent,
    AgentUpdatedStreamEvent,
    RawResponsesStreamEvent,
    RunItemStreamEvent,
    StreamEvent,
    TResponseInputItem,
)
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
)
from chatkit.types import (
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadStreamEvent,
)
from openai import OpenAIError

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.instructions import languages_of
from chatkit_rag.agent.message import AnswerEnd, AnswerMessage, whole_answer
from chatkit_rag.agent.models.failures import raise_where_declined
from chatkit_rag.agent.models.openai_failures import failure_of
from chatkit_rag.agent.phrases import REFUSED, in_language
from chatkit_rag.agent.told import client_tool_call, end_workflow, leave_workflow, progress, with_told
from chatkit_rag.agent.tools import SEARCH_COURSE, numbered
from chatkit_rag.agent.turns import Runs
from chatkit_rag.documents import Hit
from chatkit_rag.errors import ModelFailed

_log = logging.getLogger(__name__)

SAID = {"message", "reasoning"}
"""What a model says; all else in a response of its is to be carried out."""


async def stream_answer(
    agent: Agent[TurnContext], conversation: Sequence[TResponseInputItem], turn: TurnContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Runs `agent` over `conversation`, within the turn's budget, and yields the thread's events as they come.

    The run is stopped for good when the iterator is closed, cancelled, or fails.

    Raises:
        ModelFailed: the model could not be reached, refused, or broke off.
    """
    runs = Runs(agent, conversation, turn)
    # What the site itself does at the end of a run may take its time.
    answer = _RunAnswer(turn, holds=agent.hooks is None and not agent.output_guardrails)
    events = with_told(runs.happenings(), turn)
    try:
        async for event in events:
            for shown in answer.see(event):
                yield shown
        asked = client_tool_call(turn, answer.called)
        for shown in (*answer.end.release(is_last=not asked), *asked):
            yield shown
        await leave_workflow(turn)
    except (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered) as exc:
        _log.info("a guardrail stopped an answer: %s", exc.guardrail_result.guardrail.get_name())
        refusal = in_language(REFUSED, languages_of(turn.request_context))
        for shown in (*answer.withdrawn(), *whole_answer(refusal, turn)):
            yield shown
    except (OpenAIError, AgentsException) as exc:
        for shown in answer.end.release():  # a whole message is one, whatever came behind it
            yield shown
        if isinstance(exc, AgentsException):
            raise ModelFailed(f"the model gave no answer: {type(exc).__name__}") from exc
        failed = failure_of(exc, str)
        raise failed from failed.__cause__
    finally:
        # Without this the run goes on to its end, and is paid for, although nobody reads it any more.
        runs.stop()
        # Waits until it has stopped: what is left to the garbage collector closes its connection when that comes by.
        await events.aclose()


class _RunAnswer:
    """What a run says, while it is shown. Does no IO."""

    def __init__(self, turn: TurnContext, *, holds: bool) -> None:
        self._turn = turn
        self._holds = holds
        self._message: AnswerMessage | None = None
        self.end = AnswerEnd()
        self.called: RunItemStreamEvent | None = None
        """The last call of a tool."""
        self._made: list[str] = []

    def see(self, event: StreamEvent | ThreadStreamEvent) -> Sequence[ThreadStreamEvent]:
        """What the reader sees of what happens. Raises ResponseFailed where the model declined."""
        match event:
            case RawResponsesStreamEvent():
                return self._take(event.data)
            case RunItemStreamEvent(name="tool_called"):
                self.called = event
                return [*self.end.release(), *progress(event, self._turn)]
            case RunItemStreamEvent() | AgentUpdatedStreamEvent():
                return ()
            case ThreadItemAddedEvent() | ThreadItemDoneEvent():
                self._made.append(event.item.id)
                return [*self.end.release(), event]
            case _:
                return [*self.end.release(), event]

    def withdrawn(self) -> list[ThreadStreamEvent]:
        """Takes away what was shown of the answer."""
        return [ThreadItemRemovedEvent(item_id=id_) for id_ in dict.fromkeys(self._made)]

    def _take(self, data: Any) -> Sequence[ThreadStreamEvent]:
        message = self._message
        match data.type:
            case "response.output_text.delta" if message is not None:
                return message.feed(data.delta)
            case "response.output_item.added" if data.item.type == "message":
                self._message = AnswerMessage(self._turn)
                self._made.append(self._message.id)
                opening = [self._message.added(), self._message.begun()]
                return [*self.end.release(), *end_workflow(self._turn), *opening]
            case "response.output_item.done" if data.item.type == "message" and message is not None:
                raise_where_declined(part.type for part in getattr(data.item, "content", None) or ())
                self._message = None
                last = message.finish(getattr(data.item, "status", None))
                return self.end.hold(last) if self._holds else last
            case "response.completed" if all(item.type in SAID for item in data.response.output):
                return ()
            case _:
                return self.end.release()


def retrieval_first(question: str, hits: Sequence[Hit], turn: TurnContext) -> list[TResponseInputItem]:
    """What was found, as if the model had asked for it: a search before its first word costs no round trip."""
    call_id = turn.generate_id("tool_call")
    arguments = orjson.dumps({"query": question}).decode()
    return [
        {"type": "function_call", "call_id": call_id, "name": SEARCH_COURSE, "arguments": arguments},
        {"type": "function_call_output", "call_id": call_id, "output": numbered(hits, turn.cite)},
    ]
