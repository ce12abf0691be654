"""An answer straight from the lean client: the Agents SDK's runner comes in when the model calls a tool.

The runner costs several times what everything else in a turn costs, and most answers need nothing that it can do:
retrieval comes first, so the first response is the answer.

    request_body ──► stream_raw ──► text, citations ──► thread events
                          │
                          └── a tool call ──► Runner over ReplayModel ──► thread events

The request is the one that the runner would make. What the model says before a tool call is shown once.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, cast

from agents import Agent, FunctionTool, TResponseInputItem
from agents.exceptions import AgentsException
from chatkit.types import ThreadStreamEvent
from openai.types.responses import ResponseCompletedEvent

from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.message import AnswerEnd, AnswerMessage
from chatkit_rag.agent.models.exchange import TEXT_DELTA
from chatkit_rag.agent.models.failures import raise_where_declined
from chatkit_rag.agent.models.replay import ReplayModel
from chatkit_rag.agent.models.responses import ResponsesModel, typed_event
from chatkit_rag.agent.run import SAID, stream_answer
from chatkit_rag.agent.turns import budgeted, budgeted_last, most_turns
from chatkit_rag.errors import ModelFailed


def direct_model(agent: Agent[TurnContext]) -> ResponsesModel | None:
    """The agent's model, where one run of the agent up to its first tool call is one request to it; None elsewhere."""
    model, settings = agent.model, agent.model_settings
    if (
        type(agent) is Agent  # a subclass may compose its request in another way
        and isinstance(model, ResponsesModel)
        and (agent.instructions is None or isinstance(agent.instructions, str))
        and all(isinstance(tool, FunctionTool) and tool.is_enabled is True for tool in agent.tools)
        and agent.output_type is None
        and agent.hooks is None
        and agent.prompt is None
        and settings.retry is None
        and settings.timeout is None
        and not (agent.handoffs or agent.mcp_servers or agent.input_guardrails or agent.output_guardrails)
    ):
        return model
    return None


def stream_shortest(
    agent: Agent[TurnContext], conversation: Sequence[TResponseInputItem], turn: TurnContext
) -> AsyncGenerator[ThreadStreamEvent, None]:
    """The thread's events of `agent`'s answer, within the turn's budget, without the runner where that is possible.

    Closing or cancelling it stops the model at once.

    Raises:
        ModelFailed: the model could not be reached, refused, or broke off.
    """
    model = direct_model(agent)
    if model is None:
        return _stream_run(agent, conversation, turn)
    return _stream_direct(agent, model, conversation, turn)


def _stream_run(
    agent: Agent[TurnContext], conversation: Sequence[TResponseInputItem], turn: TurnContext
) -> AsyncGenerator[ThreadStreamEvent, None]:
    return cast("AsyncGenerator[ThreadStreamEvent, None]", stream_answer(agent, conversation, turn))


async def _stream_direct(
    agent: Agent[TurnContext],
    model: ResponsesModel,
    conversation: Sequence[TResponseInputItem],
    turn: TurnContext,
) -> AsyncGenerator[ThreadStreamEvent, None]:
    is_last = most_turns(turn) == 1
    settings = agent.model_settings.resolve(budgeted_last(agent, turn) if is_last else budgeted(turn))
    instructions = agent.instructions if isinstance(agent.instructions, str) else None
    try:
        body = model.request_body(instructions, list(conversation), settings, agent.tools)
    except AgentsException as exc:
        raise ModelFailed(f"the agent cannot be run: {type(exc).__name__}") from exc
    response = _Response(turn)
    raw = model.stream_raw(body, headers=settings.extra_headers, query=settings.extra_query)
    del body
    try:
        async with aclosing(raw) as events:
            async for together in events:
                for shown in response.take(together):
                    yield shown
    except ModelFailed:
        for shown in response.end.release():  # a whole message is one, whatever came behind it
            yield shown
        raise
    for shown in response.end.release(is_last=response.is_answer):
        yield shown
    if response.is_answer:
        return
    going_on = changed(agent, model=ReplayModel(response.completed, model))
    async with aclosing(_stream_run(going_on, conversation, turn)) as rest:
        async for shown in rest:
            yield shown


class _Response:
    """One response while it is shown. Does no IO."""

    def __init__(self, turn: TurnContext) -> None:
        self._turn = turn
        self._message: AnswerMessage | None = None
        self._output: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self.end = AnswerEnd()

    @property
    def is_answer(self) -> bool:
        """Whether it is all that the model has to say: nothing in it is to be carried out."""
        return all(item.get("type") in SAID for item in self._output)

    @property
    def completed(self) -> ResponseCompletedEvent:
        """Its last event, with the output, which some compatible servers leave out there."""
        response: dict[str, Any] = self._last["response"]
        whole = {**self._last, "response": {**response, "output": response.get("output") or self._output}}
        return cast("ResponseCompletedEvent", typed_event(whole))

    def take(self, together: Iterable[dict[str, Any]]) -> Iterator[ThreadStreamEvent]:
        """What the reader sees of events of the response that arrived together; text that did is one event.

        Raises:
            ResponseFailed: the model declined.
        """
        for is_text, events in groupby(together, _is_text):
            if is_text and self._message is not None:
                yield from self._message.feed(*[event["delta"] for event in events])
            else:
                for event in events:
                    yield from self._take(event)

    def _take(self, event: dict[str, Any]) -> Sequence[ThreadStreamEvent]:
        match event["type"]:
            case "response.output_item.added" if event["item"].get("type") == "message":
                self._message = AnswerMessage(self._turn)
                return [*self.end.release(), self._message.added(), self._message.begun()]
            case "response.output_item.done":
                self._output.append(event["item"])
                return self._finish(event["item"])
            case "response.completed":
                self._last = event
                self._output = event["response"].get("output") or self._output
                return ()
            case _:
                pass
        return self.end.release()

    def _finish(self, item: dict[str, Any]) -> Sequence[ThreadStreamEvent]:
        message = self._message
        if message is None or item.get("type") != "message":
            return self.end.release()
        raise_where_declined(part.get("type") for part in item.get("content") or ())
        self._message = None
        return self.end.hold(message.finish(item.get("status")))


def _is_text(event: dict[str, Any]) -> bool:
    return event["type"] == TEXT_DELTA
