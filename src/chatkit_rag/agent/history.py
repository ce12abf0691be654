"""The talk so far, as the model reads it. Pure."""

import re
from collections.abc import Iterable
from typing import Any, cast

import orjson
from agents import TResponseInputItem
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    SDKHiddenContextItem,
    StructuredInput,
    StructuredInputItem,
    ThreadItem,
    UserMessageItem,
)

CHARACTERS = 24_000
"""The budget: some 6,000 tokens of ordinary English."""

_NOTE = "(Note of the chat, not of the reader: {})"
_IMITATION = re.compile(r"\(\s*(note\s+of\s+the\s+chat)", re.IGNORECASE)


def message_text(message: UserMessageItem) -> str:
    """What the reader wrote, tags by their text, behind the excerpt that they selected, if they did."""
    written = "\n".join(part.text for part in message.content).strip()
    return f"About this excerpt:\n{message.quoted_text}\n\n{written}" if message.quoted_text else written


def in_readers_words(text: str) -> str:
    """What a reader or their browser says, with nothing in it that begins as a note of ours."""
    return _IMITATION.sub(r"(so the reader: \1", text)


def conversation(items: Iterable[ThreadItem], *, budget: int = CHARACTERS) -> list[TResponseInputItem]:
    """Messages for the model, oldest first, out of `items`, newest first: the newest that fit into the budget.

    The newest is there in any case: it is what is asked.
    """
    newest_first: list[list[TResponseInputItem]] = []
    for item in items:
        messages = _messages(item)
        budget -= sum(map(_length, messages))
        if budget < 0 and newest_first:
            break
        if messages:
            newest_first.append(messages)
    return [message for messages in reversed(newest_first) for message in messages]


def _messages(item: ThreadItem) -> list[TResponseInputItem]:
    match item:
        case UserMessageItem():
            return [{"role": "user", "content": in_readers_words(text)}] if (text := message_text(item)) else []
        case AssistantMessageItem():
            text = "\n".join(part.text for part in item.content).strip()
            return [{"role": "assistant", "content": text}] if text else []
        case ClientToolCallItem(status="completed"):
            return _tool_call(item)
        case StructuredInputItem() if item.status != "pending":
            return [{"role": "user", "content": in_readers_words("\n\n".join(map(_answer_text, item.inputs)))}]
        case SDKHiddenContextItem():
            # Ours alone: that an answer was interrupted. The model would take it for a complete one.
            return [{"role": "user", "content": _NOTE.format(item.content)}]
        case _:
            return []


def _length(message: TResponseInputItem) -> int:
    fields = cast("dict[str, Any]", message)
    return sum(len(fields.get(name, "")) for name in ("content", "arguments", "output"))


def _tool_call(item: ClientToolCallItem) -> list[TResponseInputItem]:
    """A tool that the reader's browser has carried out, with what it returned: data, like every tool's output."""
    arguments, output = orjson.dumps(item.arguments).decode(), orjson.dumps(item.output).decode()
    return [
        {"type": "function_call", "call_id": item.call_id, "name": item.name, "arguments": arguments},
        {"type": "function_call_output", "call_id": item.call_id, "output": output},
    ]


def _answer_text(question: StructuredInput) -> str:
    """A question of the assistant's, and what the reader answered."""
    given = question.answer
    answer = "(skipped)" if given is None or given.skipped else ", ".join(given.values)
    return f"{question.question}\n{answer}"
