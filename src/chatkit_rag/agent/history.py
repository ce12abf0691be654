"""The talk so far, as the model reads it. Pure."""

from collections.abc import Iterable
from typing import Literal

from agents import TResponseInputItem
from chatkit.types import AssistantMessageItem, SDKHiddenContextItem, ThreadItem, UserMessageItem

CHARACTERS = 24_000
"""The budget: some 6,000 tokens of ordinary English."""


def message_text(message: UserMessageItem) -> str:
    """What the reader wrote, tags by their text, behind the excerpt that they selected, if they did."""
    written = "\n".join(part.text for part in message.content).strip()
    return f"About this excerpt:\n{message.quoted_text}\n\n{written}" if message.quoted_text else written


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
            return ("user", text) if (text := message_text(item)) else None
        case AssistantMessageItem():
            return ("assistant", text) if (text := "\n".join(part.text for part in item.content).strip()) else None
        case SDKHiddenContextItem():
            # Ours alone: that an answer was interrupted. The model would take it for a complete one.
            return "user", f"(Note of the chat, not of the reader: {item.content})"
        case _:
            return None
