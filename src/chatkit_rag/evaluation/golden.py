"""A course measured on golden questions: is the right page found, the right heading cited, and the rest declined."""

import time
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from chatkit.types import (
    AssistantMessageItem,
    InferenceOptions,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    UserMessageTextContent,
)
from pydantic import TypeAdapter, ValidationError

from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import EvaluationError
from chatkit_rag.evaluation.measures import mean
from chatkit_rag.evaluation.report import Miss, Report
from chatkit_rag.server import RagChatServer

_CONTEXT = RequestContext(principal=Principal("evaluation"))
_FOUND = 5
"""How many passages a reader's question is answered from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """A question, and where the course answers it."""

    question: str
    page: str | None
    """The page's path; None where the course does not answer."""
    heading: str | None = None
    """The heading on it that the answer stands under; None where any will do."""


_QUESTION = TypeAdapter(GoldenQuestion)


def read_golden(file: Path) -> list[GoldenQuestion]:
    """The questions of a file, one JSON object a line.

    Raises:
        EvaluationError: the file cannot be read, a line is no question, or there is none.
    """
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(f"{file} cannot be read: {exc}") from exc
    questions: list[GoldenQuestion] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            questions.append(_QUESTION.validate_python(orjson.loads(line)))
        except (ValidationError, ValueError) as exc:
            raise EvaluationError(f'{file}, line {number}: {{"question", "page", "heading"}} belong here') from exc
    if not questions:
        raise EvaluationError(f"{file} holds no question")
    return questions


async def evaluate_golden(server: RagChatServer, questions: Sequence[GoldenQuestion]) -> Report:
    """Asks each question as a reader asks it.

    The figures are `hits@5` (the page is among the first five passages), `headings@1` (the answer cites the right
    heading first) and `answered` (it cites anything), as shares of the questions that the course answers; and
    `declined` (the answer cites nothing) as a share of the others. What no question asks about has no figure.
    """
    started = time.monotonic()
    outcomes = [await _asked(server, question) for question in questions]
    answerable = [outcome for outcome in outcomes if outcome.question.page is not None]
    others = [outcome for outcome in outcomes if outcome.question.page is None]
    shares = {
        "hits@5": [outcome.hit for outcome in answerable],
        "headings@1": [outcome.cites_first for outcome in answerable],
        "answered": [outcome.answered for outcome in answerable],
        "declined": [not outcome.answered for outcome in others],
    }
    figures = {name: mean(values) for name, values in shares.items() if values}
    return Report(
        figures=figures,
        questions=len(questions),
        seconds=time.monotonic() - started,
        misses=[outcome.miss for outcome in outcomes if not outcome.is_right],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    question: GoldenQuestion
    pages: tuple[str, ...]
    hit: bool
    answered: bool
    cites_first: bool

    @property
    def is_right(self) -> bool:
        return self.cites_first and self.hit if self.question.page is not None else not self.answered

    @property
    def miss(self) -> Miss:
        expected = " > ".join(part for part in (self.question.page, self.question.heading) if part)
        return Miss(question=self.question.question, expected=expected, found=self.pages if self.answered else ())


async def _asked(server: RagChatServer, question: GoldenQuestion) -> _Outcome:
    found = await server.retrieve(question.question, _CONTEXT)
    pages = tuple(dict.fromkeys(hit.passage.path for hit in found.hits[:_FOUND]))
    right = {
        hit.passage.url
        for hit in found.hits
        if hit.passage.path == question.page and question.heading in (None, hit.passage.heading)
    }
    cited = await _citations(server, question.question)
    return _Outcome(
        question=question,
        pages=pages,
        hit=question.page in pages,
        answered=bool(cited),
        cites_first=bool(cited) and cited[0] in right,
    )


async def _citations(server: RagChatServer, question: str) -> list[str]:
    """The addresses that an answer cites, in order."""
    thread = ThreadMetadata(id=server.store.generate_thread_id(_CONTEXT), created_at=utc_now())
    message = UserMessageItem(
        id=server.store.generate_item_id("message", thread, _CONTEXT),
        thread_id=thread.id,
        created_at=utc_now(),
        content=[UserMessageTextContent(text=question)],
        inference_options=InferenceOptions(),
    )
    await server.store.save_thread(thread, _CONTEXT)
    await server.store.add_thread_item(thread.id, message, _CONTEXT)
    return [url async for url in _cited(server.respond(thread, message, _CONTEXT))]


async def _cited(events: AsyncIterable[ThreadStreamEvent]) -> AsyncIterable[str]:
    async for event in events:
        if isinstance(event, ThreadItemDoneEvent) and isinstance(event.item, AssistantMessageItem):
            for part in event.item.content:
                for annotation in part.annotations:
                    if annotation.source.type == "url":
                        yield annotation.source.url
