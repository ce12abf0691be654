"""What a model says, and what an interface makes of it. Does no IO."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson

Ending = Literal["completed", "incomplete", "failed"]

BROKEN = "The server had an error while writing the answer."
"""What it says of an answer that it gave up."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool instead of answering."""

    name: str
    arguments: dict[str, Any]


class Wording(Protocol):
    """One answer, as bytes of a stream in their order, or as a whole."""

    content: str
    """What comes in deltas: the text, or a tool call's arguments."""

    def opening(self) -> bytes:
        """What comes before the first delta."""
        ...

    def delta(self, piece: str) -> bytes:
        """A piece of the content."""
        ...

    def ending(self, how: Ending) -> bytes:
        """What comes after the last delta."""
        ...

    def complete_again(self) -> bytes:
        """That the answer is complete, said once more."""
        ...

    def error(self) -> bytes:
        """An error in the middle of the stream."""
        ...

    def whole(self, how: Ending) -> dict[str, Any]:
        """The answer to a request that wants no stream."""
        ...


def most_tokens(request: Mapping[str, Any]) -> int:
    """How many tokens the request lets the answer have, in either interface's word for it."""
    limits = (request.get(name) for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"))
    return next((limit for limit in limits if limit is not None), sys.maxsize)


def content_of(said: str | ToolCall) -> str:
    """What comes in deltas: the text, or the arguments."""
    return said if isinstance(said, str) else orjson.dumps(said.arguments).decode()
