"""One run of the agent, as ChatKit events: text with the markers taken out, and annotations where they stood.

Our own translation of the SDK's stream, beside ChatKit's: it stops the run when it is closed, gives items our own
ids, and takes citations from the turn's passages only.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar, cast

import orjson
from agents import (
    Agent,
    AgentUpdatedStreamEvent,
    ModelSettings,
    RawResponsesStreamEvent,
    RunConfig,
    RunItemStreamEvent,
    Runner,
    StreamEvent,
    TResponseInputItem,
)
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
)
from chatkit import types
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    URLSource,
)
from openai import OpenAIError
from pydantic import BaseModel

from chatkit_rag.agent.citations import CitationReader
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.instructions import languages_of
from chatkit_rag.agent.links import LinkReader
from chatkit_rag.agent.models.failures import raise_where_declined
from chatkit_rag.agent.models.openai_failures import failure_of
from chatkit_rag.agent.phrases import REFUSED, in_language
from chatkit_rag.agent.pieces import Pieces
from chatkit_rag.agent.told import client_tool_call, end_workflow, leave_workflow, progress, with_told
from chatkit_rag.agent.tools import SEARCH_COURSE, numbered
from chatkit_rag.context import utc_now
from chatkit_rag.documents import Citation, Hit, LibraryPassage, Passage, excerpt
from chatkit_rag.errors import ModelFailed

_log = logging.getLogger(__name__)

SAID = {"message", "reasoning"}
"""What a model says; all else in a response of its is to be carried out."""
MAX_TURNS = 6
"""How often the model is asked for one answer, where its site says nothing else."""
_new = object.__new__
_set_fields, _set_names, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_UPDATE_FIELDS = {"content_index", "delta"}
_EVENT_FIELDS = {"item_id", "update"}
_BETWEEN_HEADINGS = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "

Model = TypeVar("Model", bound=BaseModel)


async def stream_answer(
    agent: Agent[TurnContext], conversation: Sequence[TResponseInputItem], turn: TurnContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Runs `agent` over `conversation`, within the turn's budget, and yields the thread's events as they come.

    The run is stopped for good when the iterator is closed, cancelled, or fails.

    Raises:
        ModelFailed: the model could not be reached, refused, or broke off.
    """
    result = Runner.run_streamed(
        agent,
        list(conversation),
        context=turn,
        max_turns=turn.budget.max_turns or MAX_TURNS,
        # Goes before what the agent has, and before what the agents have that it hands over to.
        run_config=RunConfig(tracing_disabled=True, model_settings=budgeted(turn)),
    )
    # An async generator, whatever the SDK's annotation says.
    happenings = cast("AsyncGenerator[StreamEvent, None]", result.stream_events())
    # What the site itself does at the end of a run may take its time.
    answer = _RunAnswer(turn, holds=agent.hooks is None and not agent.output_guardrails)
    events = with_told(happenings, turn)
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
        for shown in (*answer.withdrawn(), *_whole_answer(refusal, turn)):
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
        result.cancel(mode="immediate")
        # Waits until it has stopped: what is left to the garbage collector closes its connection when that comes by.
        await events.aclose()


def budgeted(turn: TurnContext) -> ModelSettings | None:
    """What the turn's budget says to the model, in place of an agent's own settings; None where it says nothing."""
    most = turn.budget.max_tokens
    return None if most is None else ModelSettings(max_tokens=most)


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


async def stream_text(text: str, turn: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
    """A ready answer, as the events that a model's would come as."""
    for event in _whole_answer(text, turn):
        yield event


async def stream_parts(parts: Iterable[str | Passage], turn: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
    """A ready answer of text in which brackets are brackets, and of the passages that it refers to."""
    message, end = AnswerMessage(turn), AnswerEnd()
    yield message.added()
    yield message.begun()
    for event in [*message.tell(parts), *end.hold(message.finish()), *end.release(is_last=True)]:
        yield event


def _whole_answer(text: str, turn: TurnContext) -> list[ThreadStreamEvent]:
    message, end = AnswerMessage(turn), AnswerEnd()
    opening = [message.added(), message.begun()]
    return [*opening, *message.feed(text), *end.hold(message.finish()), *end.release(is_last=True)]


def retrieval_first(question: str, hits: Sequence[Hit], turn: TurnContext) -> list[TResponseInputItem]:
    """What was found, as if the model had asked for it: a search before its first word costs no round trip."""
    call_id = turn.generate_id("tool_call")
    arguments = orjson.dumps({"query": question}).decode()
    return [
        {"type": "function_call", "call_id": call_id, "name": SEARCH_COURSE, "arguments": arguments},
        {"type": "function_call_output", "call_id": call_id, "output": numbered(hits, turn.cite)},
    ]


class AnswerDone(ThreadItemDoneEvent):
    """The last event of an answer: behind it, nothing is waited for."""


# ChatKit's fields name types of its module that are defined further down, which are not to be found from here.
AnswerDone.model_rebuild(_types_namespace=vars(types))


class AnswerEnd:
    """Holds back what ends a message until it is known whether that was the answer's last."""

    def __init__(self) -> None:
        self._held: ThreadItemDoneEvent | None = None

    def hold(self, events: Iterable[ThreadStreamEvent]) -> list[ThreadStreamEvent]:
        """The events without the one that ends the message."""
        shown: list[ThreadStreamEvent] = []
        for event in events:
            if isinstance(event, ThreadItemDoneEvent):
                self._held = event
            else:
                shown.append(event)
        return shown

    def release(self, *, is_last: bool = False) -> list[ThreadStreamEvent]:
        """What was held back, if anything was."""
        held, self._held = self._held, None
        if held is None:
            return []
        return [AnswerDone(item=held.item) if is_last else held]


class AnswerMessage:
    """One assistant message while it is written."""

    def __init__(self, turn: TurnContext) -> None:
        self._links = LinkReader(turn.knows)
        self._reader = CitationReader(turn.passages)
        self._annotations: list[Annotation] = []
        self._id = turn.generate_id("message")
        self._item = AssistantMessageItem(id=self._id, thread_id=turn.thread.id, created_at=utc_now(), content=[])

    @property
    def id(self) -> str:
        """What the thread calls it."""
        return self._id

    def added(self) -> ThreadItemAddedEvent:
        """The message begins, empty."""
        return ThreadItemAddedEvent(item=self._item)

    def begun(self) -> ThreadStreamEvent:
        """Its text begins."""
        part = AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text=""))
        return ThreadItemUpdatedEvent(item_id=self._item.id, update=part)

    def feed(self, *pieces: str) -> list[ThreadStreamEvent]:
        """The updates that pieces of the model's text make; one for all text that nothing stands between."""
        passed, read = self._links.feed, self._reader.feed
        return self._updates(part for piece in pieces for part in read(passed(piece)))

    def tell(self, parts: Iterable[str | Passage]) -> list[ThreadStreamEvent]:
        """The updates that text of our own makes, and the passages that it refers to."""
        updates: list[ThreadStreamEvent] = []
        for part in parts:
            if isinstance(part, str):
                self._reader.take(part)
                updates.append(text_update(self._id, part))
            else:
                number, index = len(self._annotations) + 1, len(self._reader.text)
                updates.append(self._citation(Citation(number=number, passage=part, index=index)))
        return updates

    def finish(self, status: str | None = "completed") -> list[ThreadStreamEvent]:
        """The last updates, and the message as it is stored.

        One that is `incomplete`, because the model's tokens ended, stays open: the turn keeps what there is of it as it
        keeps all that is cut short.
        """
        rest = self._updates([*self._reader.feed(self._links.close()), *self._reader.close()])
        if status == "incomplete":
            return rest
        content = self._content()
        done = AssistantMessageContentPartDone(content_index=0, content=content)
        stored = self._item.model_copy(update={"content": [content]})
        return [*rest, ThreadItemUpdatedEvent(item_id=self._item.id, update=done), ThreadItemDoneEvent(item=stored)]

    def _content(self) -> AssistantMessageContent:
        return AssistantMessageContent(text=self._reader.text, annotations=list(self._annotations))

    def _updates(self, parts: Iterable[str | Citation]) -> list[ThreadStreamEvent]:
        updates: list[ThreadStreamEvent] = []
        texts: list[str] = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            if texts:
                updates.append(text_update(self._id, Pieces.joined(texts)))
                texts = []
            updates.append(self._citation(part))
        if texts:
            updates.append(text_update(self._id, Pieces.joined(texts)))
        return updates

    def _citation(self, cited: Citation) -> ThreadStreamEvent:
        self._annotations.append(annotation_of(cited))
        return ThreadItemUpdatedEvent(
            item_id=self._item.id,
            update=AssistantMessageContentPartAnnotationAdded(
                content_index=0, annotation_index=len(self._annotations) - 1, annotation=self._annotations[-1]
            ),
        )


def text_update(item_id: str, text: str) -> ThreadItemUpdatedEvent:
    """The event of a piece of text, made without validation: these are nearly all events, and their types are known.

    `model_construct` would take longer than validating does; this takes less than half of it.
    """
    update = _bare(
        AssistantMessageContentPartTextDelta,
        {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": text},
        _UPDATE_FIELDS,
    )
    event = {"type": "thread.item.updated", "item_id": item_id, "update": update}
    return _bare(ThreadItemUpdatedEvent, event, _EVENT_FIELDS)


def _bare(kind: type[Model], fields: dict[str, Any], names: set[str]) -> Model:
    model = _new(kind)
    _set_fields(model, fields)
    _set_names(model, names)
    _set_extra(model, None)
    _set_private(model, None)
    return model


def annotation_of(citation: Citation) -> Annotation:
    """A citation as ChatKit shows it: a link to the page and heading, with how the passage begins."""
    passage = citation.passage
    title = _BETWEEN_HEADINGS.join(passage.heading_path)
    source = URLSource(title=title, description=excerpt(passage.text), url=passage.url)
    if isinstance(passage, LibraryPassage):
        source.group, source.attribution = passage.type, passage.library
    return Annotation(index=citation.index, source=source)
