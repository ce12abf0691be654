"""The talk so far, as the model reads it. Pure.

What is chosen, within a budget of tokens: the newest item in any case, the first question, then words from the newest
back without a gap, and what tools returned where there is room left.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
from agents import TResponseInputItem
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    GeneratedImageItem,
    SDKHiddenContextItem,
    StructuredInput,
    StructuredInputItem,
    ThreadItem,
    UserMessageItem,
    WidgetItem,
)

from chatkit_rag.agent.tokens import estimated_tokens

NOTE = "(Note of the chat, not of the reader: {})"
"""Says to the model that the reader did not write this."""
_IMITATION = re.compile(r"\(\s*(note\s+of\s+the\s+chat)", re.IGNORECASE)
_CUT = " […] "
_LONGEST = 4
"""An item before the newest is cut to this part of the budget, so that one long one does not take the others' place."""

_WIDGET_TEXTS = ("value", "label", "title", "text", "alt")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions:
    """How much of a thread the model is told."""

    items: int = 20
    """The newest items that are looked at, besides the first question."""
    tokens: int = 6_000
    """What they may take together. The newest is told in any case."""
    count: Callable[[str], int] = estimated_tokens
    """Counts a text's tokens; a model's own tokenizer can stand here."""


def written_by(message: UserMessageItem) -> str:
    """What the reader wrote, tags by their text."""
    return "\n".join(part.text for part in message.content).strip()


def message_text(message: UserMessageItem) -> str:
    """What the reader wrote, behind the excerpt that they selected, if they did."""
    written = written_by(message)
    return f"About this excerpt:\n{message.quoted_text}\n\n{written}" if message.quoted_text else written


def in_readers_words(text: str) -> str:
    """What a reader or their browser says, with nothing in it that begins as a note of ours."""
    return _IMITATION.sub(r"(so the reader: \1", text)


def conversation(
    items: Iterable[ThreadItem], options: HistoryOptions | None = None, *, first: UserMessageItem | None = None
) -> list[TResponseInputItem]:
    """Messages for the model, oldest first, out of `items`, newest first.

    `first` is the thread's first question, where it is older than all of these.
    """
    options = options or HistoryOptions()
    told = _told(items, options)
    if not told:
        return []
    newest, *older = told
    before = _Told.of(first, options, longest=options.tokens // _LONGEST) if first else None
    opening = before or next((one for one in reversed(older) if isinstance(one.item, UserMessageItem)), None)
    left = options.tokens - newest.tokens - (opening.tokens if opening else 0)
    kept = {newest, *_chosen(older, opening, left)}
    in_order = [*([before] if before else []), *(one for one in reversed(told) if one in kept)]
    return [message for one in in_order for message in one.messages]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Told:
    """An item as the model reads it."""

    item: ThreadItem
    messages: Sequence[TResponseInputItem]
    tokens: int

    @classmethod
    def of(cls, item: ThreadItem, options: HistoryOptions, *, longest: int | None) -> "_Told":
        """The item, with the beginning and the end of what is longer in it than so many tokens."""
        messages = _messages(item)
        tokens = _tokens(messages, options)
        if longest is not None and tokens > longest:
            messages = [_shortened(message, longest, options) for message in messages]
            tokens = _tokens(messages, options)
        return cls(item=item, messages=messages, tokens=tokens)

    @property
    def is_tool(self) -> bool:
        return isinstance(self.item, ClientToolCallItem)


def _told(items: Iterable[ThreadItem], options: HistoryOptions) -> list[_Told]:
    """What can be told of `items`: the question that is asked stands there whole, what is older is cut to its part."""
    told: list[_Told] = []
    for item in items:
        longest = options.tokens // _LONGEST if told else options.tokens
        is_asked = not told and isinstance(item, UserMessageItem)
        if (one := _Told.of(item, options, longest=None if is_asked else longest)).messages:
            told.append(one)
    return told


def _chosen(older: Sequence[_Told], opening: _Told | None, left: int) -> set[_Told]:
    """Words from the newest back until the tokens are used up, and the tools among them for which some are left.

    `opening` is paid for already.
    """
    chosen: set[_Told] = {opening} if opening else set()
    among: list[_Told] = []
    passed: list[_Told] = []
    for one in older:
        if one.is_tool:
            passed.append(one)
            continue
        left -= 0 if one is opening else one.tokens
        if left < 0:
            left += one.tokens
            break
        chosen.add(one)
        among += passed
        passed = []
    for tool in among:
        left -= tool.tokens
        if left < 0:
            break
        chosen.add(tool)
    return chosen


def _messages(item: ThreadItem) -> list[TResponseInputItem]:
    match item:
        case UserMessageItem():
            said: list[TResponseInputItem] = []
            if item.attachments:
                names = orjson.dumps([file.name for file in item.attachments]).decode()
                said.append({"role": "user", "content": NOTE.format(f"files attached: {in_readers_words(names)}")})
            if text := message_text(item):
                said.append({"role": "user", "content": in_readers_words(text)})
            return said
        case AssistantMessageItem():
            text = "\n".join(part.text for part in item.content).strip()
            return [{"role": "assistant", "content": text}] if text else []
        case ClientToolCallItem(status="completed"):
            return _tool_call(item)
        case StructuredInputItem() if item.status != "pending":
            return [{"role": "user", "content": in_readers_words("\n\n".join(map(_answer_text, item.inputs)))}]
        case WidgetItem() | GeneratedImageItem() | SDKHiddenContextItem():
            return [{"role": "user", "content": NOTE.format(note)}] if (note := _noted(item)) else []
        case _:
            return []


def _noted(item: WidgetItem | GeneratedImageItem | SDKHiddenContextItem) -> str:
    match item:
        case WidgetItem():
            text = item.copy_text or "\n".join(_texts(item.widget.model_dump(mode="json", exclude_none=True)))
            return f"a card was shown, which says: {in_readers_words(text)}" if text else ""
        case GeneratedImageItem():
            return "an image was made and shown"
        case SDKHiddenContextItem():
            # Ours alone: that an answer was interrupted. The model would take it for a complete one.
            return str(item.content)


def _tokens(messages: Iterable[TResponseInputItem], options: HistoryOptions) -> int:
    return sum(options.count(text) for message in messages for _, text in _long_fields(message))


def _long_fields(message: TResponseInputItem) -> list[tuple[str, str]]:
    fields = cast("dict[str, Any]", message)
    return [(name, fields[name]) for name in ("content", "arguments", "output") if name in fields]


def _shortened(message: TResponseInputItem, longest: int, options: HistoryOptions) -> TResponseInputItem:
    shorter = {name: _ends(text, longest, options) for name, text in _long_fields(message) if name != "arguments"}
    return cast("TResponseInputItem", {**cast("dict[str, Any]", message), **shorter})


def _ends(text: str, tokens: int, options: HistoryOptions) -> str:
    counted = options.count(text)
    if counted <= tokens:
        return text
    each = len(text) * tokens // counted // 2
    return f"{text[:each]}{_CUT}{text[len(text) - each :]}"


def _texts(node: object) -> Iterator[str]:
    """What can be read on a widget, in its order."""
    if isinstance(node, dict):
        fields = cast("dict[str, object]", node)
        yield from (value for name in _WIDGET_TEXTS if isinstance(value := fields.get(name), str) and value)
        for value in fields.values():
            if isinstance(value, dict | list):
                yield from _texts(cast("object", value))
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from _texts(value)


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
