"""The talk so far, as the model reads it. Pure."""

import re
from collections.abc import Iterable
from typing import Literal

from agents import TResponseInputItem
from chatkit.types import AssistantMessageItem, SDKHiddenContextItem, ThreadItem, UserMessageItem

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
    messages: list[TResponseInputItem] = []
    for item in items:
        message = _message(item)
        if message is None:
            continue
        role, text = message
        budget -= len(text)
        if budget < 0 and messages:
            break
        messages.append({"role": role, "content": text})
    return messages[::-1]


def _message(item: ThreadItem) -> tuple[Literal["user", "assistant"], str] | None:
    match item:
        case UserMessageItem():
            return ("user", in_readers_words(text)) if (text := message_text(item)) else None
        case AssistantMessageItem():
            return ("assistant", text) if (text := "\n".join(part.text for part in item.content).strip()) else None
        case SDKHiddenContextItem():
            # Ours alone: that an answer was interrupted. The model would take it for a complete one.
            return "user", _NOTE.format(item.content)
        case _:
            return None
