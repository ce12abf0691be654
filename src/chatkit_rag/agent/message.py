"""One message of the assistant's while it is written: its text without markers, and annotations where they stood.

Does no IO. Whoever writes it, a run, a single response or we ourselves, its events are the same.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

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
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    URLSource,
)
from pydantic import BaseModel

from chatkit_rag.agent.citations import CitationReader
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.links import LinkReader
from chatkit_rag.agent.pieces import Pieces
from chatkit_rag.context import utc_now
from chatkit_rag.documents import Citation, LibraryPassage, Passage, excerpt

_new = object.__new__
_set_fields, _set_names, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_UPDATE_FIELDS = {"content_index", "delta"}
_EVENT_FIELDS = {"item_id", "update"}
_BETWEEN_HEADINGS = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "

Model = TypeVar("Model", bound=BaseModel)


async def stream_text(text: str, turn: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
    """A ready answer, as the events that a model's would come as."""
    for event in whole_answer(text, turn):
        yield event


async def stream_parts(parts: Iterable[str | Passage], turn: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
    """A ready answer of text in which brackets are brackets, and of the passages that it refers to."""
    message, end = AnswerMessage(turn), AnswerEnd()
    yield message.added()
    yield message.begun()
    for event in [*message.tell(parts), *end.hold(message.finish()), *end.release(is_last=True)]:
        yield event


def whole_answer(text: str, turn: TurnContext) -> list[ThreadStreamEvent]:
    """All events of a ready answer."""
    message, end = AnswerMessage(turn), AnswerEnd()
    opening = [message.added(), message.begun()]
    return [*opening, *message.feed(text), *end.hold(message.finish()), *end.release(is_last=True)]


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
