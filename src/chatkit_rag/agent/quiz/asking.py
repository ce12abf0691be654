"""A quiz on the open page, from the reader's wish to the checked answers.

    "quiz me" ─► the page's passages ─► drafted by the model, or cloze ─► a hidden item, and the questions
    answers ─► the hidden item ─► what was right, why, and where it stands

The page is read as the reader may see it, both times.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from agents import Model, ModelSettings
from chatkit.types import (
    HiddenContextItem,
    ProgressUpdateEvent,
    StructuredInputItem,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadStreamEvent,
    UserMessageItem,
)

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.history import written_by
from chatkit_rag.agent.instructions import languages_of
from chatkit_rag.agent.message import AnswerDone, stream_parts
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.phrases import (
    QUIZ_NO_PAGE,
    QUIZ_RIGHT,
    QUIZ_SCORE,
    QUIZ_SKIPPED,
    QUIZ_THIN,
    QUIZ_WRONG,
    READING,
    in_language,
)
from chatkit_rag.agent.quiz.cloze import cloze_questions
from chatkit_rag.agent.quiz.drafted import drafted_questions
from chatkit_rag.agent.quiz.questions import (
    FEWEST,
    Question,
    as_checked,
    checked,
    place_of,
    shown_inputs,
    solutions,
    to_check,
)
from chatkit_rag.agent.turns import budgeted
from chatkit_rag.context import PageContext, utc_now
from chatkit_rag.documents import Passage, page_url
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource

QUIZ = "quiz"
"""The tool's name in `inference_options.tool_choice.id`."""

_ABOUT = r"(?: (?:on|about)(?: (?:this|the)(?: (?:page|chapter|lesson))?))?"
_ASKED = re.compile(
    rf"(?:please )?(?:quiz me{_ABOUT}|test me{_ABOUT}|(?:make|give me) a quiz{_ABOUT})(?: please)?"
    r"|(?:bitte )?(?:frag|frage) mich (?:(?:zu dieser seite|zu diesem kapitel) )?ab|mach ein quiz(?: zu dieser seite)?"
    r"|(?:interroge moi|fais moi un quiz)(?: sur (?:cette page|ce chapitre))?"
    r"|(?:hazme|haz) (?:un quiz|un cuestionario|preguntas)(?: sobre (?:esta página|este capítulo))?"
)
"""Messages that ask for a quiz and for nothing else."""


def asks_for_quiz(message: UserMessageItem) -> bool:
    """Whether the reader wants a quiz: by the tool that they chose, or in so many words."""
    chosen = message.inference_options.tool_choice
    if chosen is not None:
        return chosen.id == QUIZ
    return _ASKED.fullmatch(" ".join(re.findall(r"\w+", written_by(message).lower()))) is not None


def quiz_events(
    source: Source, model: object, message: UserMessageItem | None, history: Sequence[ThreadItem], turn: TurnContext
) -> AsyncGenerator[ThreadStreamEvent, None] | None:
    """The answer to a wish for a quiz, or to the answers of one in `history` (newest first); None for all else."""
    if message is not None:
        return _ask(source, model, turn) if asks_for_quiz(message) else None
    found = to_check(history)
    return None if found is None else _check(source, *found, turn)


async def _ask(source: Source, model: object, turn: TurnContext) -> AsyncGenerator[ThreadStreamEvent, None]:
    languages = languages_of(turn.request_context)
    yield ProgressUpdateEvent(icon="book-open", text=in_language(READING, languages))
    record = _open_page(await _pages(source, turn), turn.page)
    if record is None:
        async for event in stream_parts([in_language(QUIZ_NO_PAGE, languages)], turn):
            yield event
        return
    questions = await _questions(model, _passages(record), budgeted(turn) or ModelSettings())
    if len(questions) < FEWEST:
        async for event in stream_parts([in_language(QUIZ_THIN, languages)], turn):
            yield event
        return
    place: Any = {"thread_id": turn.thread.id, "created_at": utc_now()}
    item_id = turn.generate_id("message")
    kept = solutions(questions, item_id)
    # First what is kept, so that no question is ever shown whose answer is not.
    yield ThreadItemDoneEvent(item=HiddenContextItem(id=turn.generate_id("message"), content=kept, **place))
    yield AnswerDone(item=StructuredInputItem(id=item_id, inputs=shown_inputs(questions), **place))


async def _questions(model: object, passages: Sequence[Passage], settings: ModelSettings) -> list[Question]:
    """The model's questions; where too few of them hold, or there is no model, those that the page itself makes."""
    if isinstance(model, Model) and not isinstance(model, ExtractiveModel):
        drafted = await drafted_questions(model, passages, settings)
        if len(drafted) >= FEWEST:
            return drafted
    return cloze_questions(passages)


async def _check(
    source: Source, answered: StructuredInputItem, kept: HiddenContextItem, turn: TurnContext
) -> AsyncGenerator[ThreadStreamEvent, None]:
    yield ThreadItemDoneEvent(item=as_checked(kept))
    languages = languages_of(turn.request_context)
    answers = checked(answered, kept)
    records = [record for record in await _pages(source, turn) if (record.site, record.document.path) == place_of(kept)]
    passages = {passage.id: passage for record in records for passage in _passages(record)}
    right = sum(answer.is_right for answer in answers)
    score = in_language(QUIZ_SCORE, languages).format(right=right, all=len(answers))
    parts: list[str | Passage] = [f"**{score}**"]
    for number, answer in enumerate(answers, start=1):
        outcome = QUIZ_RIGHT if answer.is_right else QUIZ_SKIPPED if answer.given is None else QUIZ_WRONG
        said = in_language(outcome, languages)
        parts.append(f"\n\n{number}. **{said}** {answer.answer}: {answer.explanation}")
        # A page that was changed or taken away since is not referred to any more.
        if answer.passage_id in passages:
            parts.append(passages[answer.passage_id])
    async for event in stream_parts(parts, turn):
        yield event


async def _pages(source: Source, turn: TurnContext) -> Sequence[PageRecord]:
    return await source.pages(turn.request_context) if isinstance(source, CourseSource) else ()


def _passages(record: PageRecord) -> list[Passage]:
    return cut_passages(record.document, site=record.site, base_url=record.base_url)


def _open_page(records: Sequence[PageRecord], page: PageContext | None) -> PageRecord | None:
    """The page that the reader has open, of those that they may see."""
    if page is None:
        return None
    places = {_path(place) for place in (page.path, page.url) if place}

    def is_open(record: PageRecord) -> bool:
        document = record.document
        address = page_url(record.base_url, document.address or document.path)
        return not places.isdisjoint({_path(document.path), _path(document.address or document.path), _path(address)})

    return next(filter(is_open, records), None)


def _path(place: str) -> str:
    try:
        path = urlsplit(place).path
    except ValueError:  # a browser's, which may be anything
        path = place
    return unquote(path).rstrip("/") or "/"
