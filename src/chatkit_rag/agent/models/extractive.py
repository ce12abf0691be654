"""`ExtractiveModel`: an answer without a language model, in the course's own words.

It runs in the same agent loop as any other model: it reads the last search result among its input, and answers with
the sentences of the best passages, each cited. It invents nothing, and says what it is.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agents import Model, ModelResponse, TResponseInputItem, Usage
from agents.items import TResponseStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

from chatkit_rag.agent.phrases import NOT_COVERED
from chatkit_rag.ingestion.passages import SENTENCE_END, count_words
from chatkit_rag.retrieval.segmentation import is_unspaced, pieces, words
from chatkit_rag.stores.ids import new_id

_MAIN_WORDS = 120
"""Words of the best passage that are shown before it is cut at a paragraph."""

_FURTHER = 2
"""Passages that are named besides the best one."""

_RELEVANT = 0.6
"""A further passage counts when it fits at least so well, against the best."""

_CLOSING = "*These are the course's own sentences: no language model is configured.*"
_CLOSING_WITH_LIBRARY = (
    "*These are sentences of the course and of {}'s documentation: no language model is configured.*"
)

_ENDS = tuple(".!?:。！？：।॥؟۔")  # noqa: RUF001 - these end sentences, or announce what follows
_ANNOUNCES = (":", "：")  # noqa: RUF001 - likewise
_PIECE = re.compile(r"\s*\S+")
_TELLING = 4
"""Letters from which on a word of the question tells one sentence from another; pairs of unspaced scripts always do."""


@dataclass(frozen=True, slots=True)
class _Found:
    number: int
    page: str
    heading: str
    relevance: float
    text: str
    library: str = ""


class ExtractiveModel(Model):
    """An `agents.Model` that needs no key, no network and no weights."""

    async def get_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> ModelResponse:
        """The whole answer at once."""
        message = _message(new_id("msg"), compose_from(input))
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    async def stream_response(  # type: ignore[override] - an async generator is what the SDK's own models are
        self,
        system_instructions: Any,
        input: str | list[TResponseInputItem],
        *_args: Any,
        **_kwargs: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        """The answer word by word, as the events of the Responses interface."""
        text = compose_from(input)
        item_id, response_id = new_id("msg"), new_id("resp")
        numbers = iter(range(1_000_000_000))
        place: Any = {"item_id": item_id, "output_index": 0, "content_index": 0}
        empty, full = _part(""), _part(text)

        yield ResponseCreatedEvent(
            type="response.created", response=_response(response_id, []), sequence_number=next(numbers)
        )
        yield ResponseOutputItemAddedEvent(
            type="response.output_item.added",
            output_index=0,
            item=ResponseOutputMessage(id=item_id, type="message", role="assistant", status="in_progress", content=[]),
            sequence_number=next(numbers),
        )
        yield ResponseContentPartAddedEvent(
            type="response.content_part.added", part=empty, sequence_number=next(numbers), **place
        )
        for piece in _PIECE.findall(text):
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta", delta=piece, logprobs=[], sequence_number=next(numbers), **place
            )
        yield ResponseTextDoneEvent(
            type="response.output_text.done", text=text, logprobs=[], sequence_number=next(numbers), **place
        )
        yield ResponseContentPartDoneEvent(
            type="response.content_part.done", part=full, sequence_number=next(numbers), **place
        )
        message = _message(item_id, text)
        yield ResponseOutputItemDoneEvent(
            type="response.output_item.done", output_index=0, item=message, sequence_number=next(numbers)
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=_response(response_id, [message]), sequence_number=next(numbers)
        )


def compose_from(conversation: str | Sequence[TResponseInputItem]) -> str:
    """The answer to a conversation as the agent loop hands it over, with `[n]` markers."""
    items: list[Any] = [] if isinstance(conversation, str) else list(conversation)
    outputs = [item for item in items if item.get("type") == "function_call_output"]
    questions = [item["content"] for item in items if item.get("role") == "user"]
    found = _read(outputs[-1]["output"]) if outputs else []
    return compose(questions[-1] if questions else "", found)


def compose(question: str, found: Sequence[_Found]) -> str:
    """The best passage, cut where it grows long, and a sentence of each other one that fits nearly as well."""
    if not found:
        return NOT_COVERED["en"]
    best, *others = found
    paragraphs = [f"**{best.heading.split(' > ')[-1]}**", _cited(_beginning(best.text), best.number)]
    asked = _telling(question)
    further = [
        (other, sentence)
        for other in others[:_FURTHER]
        if other.relevance >= _RELEVANT and (sentence := _best_sentence(other.text, asked))
    ]
    if further:
        named = [f"- **{other.heading.split(' > ')[-1]}:** {said} [{other.number}]" for other, said in further]
        paragraphs += ["See also:", "\n".join(named)]
    library = next((one.library for one in (best, *(other for other, _ in further)) if one.library), "")
    return "\n\n".join([*paragraphs, _CLOSING_WITH_LIBRARY.format(library) if library else _CLOSING])


def _beginning(text: str) -> str:
    """Whole paragraphs up to the limit, at least one, and up to the first code fence, which comes along whole."""
    kept: list[str] = []
    length = 0
    for block in _blocks(text):
        if block.startswith("```"):
            kept.append(block)
            break
        introduces = bool(kept) and kept[-1].rstrip().endswith(_ANNOUNCES)
        if kept and length + count_words(block) > _MAIN_WORDS and not introduces:
            break
        kept.append(block)
        length += count_words(block)
    return "\n\n".join(kept)


def _blocks(text: str) -> list[str]:
    """Paragraphs and fences; a blank line within a fence does not end it."""
    blocks: list[str] = []
    fenced = False
    for block in text.split("\n\n"):
        if fenced:
            blocks[-1] += f"\n\n{block}"
        else:
            blocks.append(block)
        fenced ^= block.count("```") % 2 == 1
    return blocks


def _cited(text: str, number: int) -> str:
    """The text with its marker behind the last paragraph that is a sentence: in code, a marker would be code."""
    blocks = _blocks(text)
    prose = [position for position, block in enumerate(blocks) if not block.startswith(("```", "|", "$$"))]
    prose = [position for position in prose if blocks[position].rstrip().endswith(_ENDS)] or prose
    if not prose:
        return f"{text}\n\n[{number}]"
    blocks[prose[-1]] += f" [{number}]"
    return "\n\n".join(blocks)


def _best_sentence(text: str, asked: set[str]) -> str:
    prose = [block for block in _blocks(text) if not block.startswith(("```", "|", "$$", "- ", "1. ", ">"))]
    lines = [line for block in prose for line in block.splitlines()]
    sentences = [sentence for line in lines for sentence in _sentences(line)]
    best = max(sentences, key=lambda sentence: _overlap(sentence, asked), default="")
    return best if _overlap(best, asked) and not best.endswith(_ANNOUNCES) else ""


def _sentences(line: str) -> list[str]:
    ends = [found.end() for found in SENTENCE_END.finditer(line)]
    return [line[start:end].strip() for start, end in pairwise([0, *ends, len(line)]) if line[start:end].strip()]


def _overlap(sentence: str, asked: set[str]) -> int:
    return len(asked.intersection(_telling(sentence)))


def _telling(text: str) -> set[str]:
    said = words(text)
    pairs = {piece for word in said if is_unspaced(word) for piece in pieces(word)}
    return pairs.union(word for word in said if len(word) >= _TELLING and not is_unspaced(word))


def _read(output: Any) -> list[_Found]:
    try:
        return [_Found(**passage) for passage in json.loads(output)["passages"]]
    except (ValueError, KeyError, TypeError):
        return []  # another tool's output: nothing that could be cited


def _part(text: str) -> ResponseOutputText:
    return ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])


def _message(item_id: str, text: str) -> ResponseOutputMessage:
    return ResponseOutputMessage(
        id=item_id, type="message", role="assistant", status="completed", content=[_part(text)]
    )


def _response(response_id: str, output: list[Any]) -> Response:
    return Response(
        id=response_id,
        created_at=0,
        model="extractive",
        object="response",
        output=output,
        parallel_tool_calls=False,
        tool_choice="auto",
        tools=[],
        status="completed" if output else "in_progress",
    )
