"""What a client may answer and press: checked against what it was asked and offered. Pure."""

from typing import Any, cast

from chatkit.types import (
    StructuredInput,
    StructuredInputAnswer,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputSubmission,
    WidgetItem,
)

from chatkit_rag.errors import InvalidRequest

_ANSWER_CHARACTERS = 4_000


def with_answers(item: StructuredInputItem, submission: StructuredInputSubmission) -> StructuredInputItem:
    """The questions with the reader's answers.

    A choice takes any text beside its options, as ChatKit's client offers it, but one only where one is asked for.

    Raises:
        InvalidRequest: an answer is to no question, or is too long, or there are several where one is asked for.
    """
    known = {question.id for question in item.inputs}
    if unknown := submission.answers.keys() - known:
        raise InvalidRequest("an answer is to no question", details={"unknown": sorted(unknown)[:10]})
    inputs = [_answered(question, submission) for question in item.inputs]
    return item.model_copy(update={"status": submission.status, "inputs": inputs})


def _answered(question: StructuredInput, submission: StructuredInputSubmission) -> StructuredInput:
    given = submission.answers.get(question.id)
    if submission.status == "skipped" or given is None or given.skipped:
        return question.model_copy(update={"answer": StructuredInputAnswer(skipped=True)})
    takes_several = isinstance(question, StructuredInputMultipleChoice) and question.multiple
    if len(given.values) > 1 and not takes_several:
        raise InvalidRequest("one answer is asked for", details={"question": question.id})
    if any(len(value) > _ANSWER_CHARACTERS for value in given.values):
        raise InvalidRequest("an answer is too long", details={"question": question.id, "limit": _ANSWER_CHARACTERS})
    return question.model_copy(update={"answer": StructuredInputAnswer(values=list(given.values))})


def offers_action(item: WidgetItem, action: str) -> bool:
    """Whether the widget has a component that sends an action of this type."""
    waiting: list[Any] = [item.widget.model_dump()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            fields = cast("dict[str, Any]", part)
            if any(name.endswith("Action") and _type_of(value) == action for name, value in fields.items()):
                return True
            waiting.extend(fields.values())
        elif isinstance(part, list):
            waiting.extend(cast("list[Any]", part))
    return False


def _type_of(value: Any) -> Any:
    return cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else None
