"""A quiz as data: what is asked, what is kept until the reader answers, and what their answers are worth. Pure.

The answers are in a hidden item of their own, which never leaves the server; the questions' item holds none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from chatkit.types import (
    HiddenContextItem,
    StructuredInput,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    ThreadItem,
)

from chatkit_rag.documents import Passage

FEWEST, MOST = 3, 5
"""Questions of a quiz."""

_MARKS = re.compile(r"[^\w+#-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question on a passage."""

    text: str
    answer: str
    wrong: tuple[str, ...] = ()
    """Options besides the answer; without any, the reader writes theirs."""
    explanation: str
    passage: Passage

    def shown(self, id_: str) -> StructuredInput:
        """The question as the reader sees it; where the answer stands among the options says nothing."""
        if not self.wrong:
            return StructuredInputFreeform(id=id_, question=self.text)
        values = sorted((self.answer, *self.wrong), key=lambda value: sha256(f"{self.text}\0{value}".encode()).digest())
        options = [StructuredInputMultipleChoiceOption(value=value) for value in values]
        return StructuredInputMultipleChoice(id=id_, question=self.text, options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A question whose answer may be told."""

    given: str | None
    """What the reader answered; None where they did not."""
    is_right: bool
    answer: str
    explanation: str
    passage_id: str


def shown_inputs(questions: Sequence[Question]) -> list[StructuredInput]:
    """The questions as the reader sees them."""
    return [question.shown(f"q{number}") for number, question in enumerate(questions, start=1)]


def solutions(questions: Sequence[Question], item_id: str) -> dict[str, Any]:
    """What a hidden item keeps of the questions that are shown in the item `item_id`."""
    kept = [
        {"answer": question.answer, "explanation": question.explanation, "passage": question.passage.id}
        for question in questions
    ]
    page = questions[0].passage
    return {"quiz": item_id, "site": page.site, "path": page.path, "solutions": kept, "is_checked": False}


def to_check(items: Sequence[ThreadItem]) -> tuple[StructuredInputItem, HiddenContextItem] | None:
    """The newest quiz among `items`, newest first, that was answered and not checked yet, and what is kept of it.

    The reader may have gone on talking before they answered, so it need not be the newest item.
    """
    kept = {
        content["quiz"]: item
        for item in items
        if isinstance(item, HiddenContextItem) and (content := _content(item)).get("quiz") and not content["is_checked"]
    }
    answered = (item for item in items if isinstance(item, StructuredInputItem) and item.status != "pending")
    return next(((item, kept[item.id]) for item in answered if item.id in kept), None)


def as_checked(kept: HiddenContextItem) -> HiddenContextItem:
    """What is kept of a quiz whose answers the reader was told."""
    return kept.model_copy(update={"content": {**_content(kept), "is_checked": True}})


def place_of(kept: HiddenContextItem) -> tuple[str, str]:
    """The site and the path of the page that a quiz is on."""
    content = _content(kept)
    return content["site"], content["path"]


def _content(item: HiddenContextItem) -> dict[str, Any]:
    content: Any = item.content
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def checked(answered: StructuredInputItem, kept: HiddenContextItem) -> list[Checked]:
    """What the reader's answers are worth."""
    pairs = zip(answered.inputs, _content(kept)["solutions"], strict=True)
    return [_checked(asked, solution) for asked, solution in pairs]


def _checked(asked: StructuredInput, solution: Mapping[str, str]) -> Checked:
    given = None if asked.answer is None or asked.answer.skipped else ", ".join(asked.answer.values).strip() or None
    return Checked(
        given=given,
        is_right=given is not None and plain(given) == plain(solution["answer"]),
        answer=solution["answer"],
        explanation=solution["explanation"],
        passage_id=solution["passage"],
    )


def plain(text: str) -> str:
    """A text by which answers are compared: small letters, without marks."""
    return " ".join(_MARKS.sub(" ", text.casefold()).split())
