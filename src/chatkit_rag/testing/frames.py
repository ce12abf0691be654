"""A stream of ChatKit's, read strictly: bytes in any pieces to events, and a complaint about everything else. Pure."""

from dataclasses import dataclass
from typing import Any, cast

import orjson
from chatkit.types import ThreadStreamEvent
from pydantic import TypeAdapter, ValidationError

# Built once: building it takes a thousand times as long as using it.
_EVENTS: TypeAdapter[ThreadStreamEvent] = TypeAdapter(ThreadStreamEvent)

_SHOWN = 200
"""Characters of what a complaint is about."""


class ProtocolViolation(AssertionError):
    """What a server sent is not ChatKit's protocol. The message says what is wrong, and shows it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, as ChatKit's type and as the JSON that it came as."""

    event: ThreadStreamEvent
    json: dict[str, Any]


class FrameReader:
    r"""Takes a stream apart: `data: {json}\n\n` is an event, `: text\n\n` a comment, and nothing else may come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Frame]:
        """The events that `piece` completes.

        Raises:
            ProtocolViolation: something is neither an event of ChatKit's nor a comment.
        """
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        return [_frame(block) for block in blocks if not _is_comment(block)]

    def end(self) -> None:
        """Nothing will follow.

        Raises:
            ProtocolViolation: the stream ends within a frame.
        """
        if self._rest:
            raise ProtocolViolation(f"the stream ends within a frame: {shown(self._rest)}")


def shown(content: bytes) -> str:
    """The beginning of `content`, for a message."""
    text = content.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def complaint(error: ValidationError) -> str:
    """What does not fit, field by field."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in found[:5])


def _is_comment(block: bytes) -> bool:
    return block.startswith(b": ") and b"\n" not in block


def _frame(block: bytes) -> Frame:
    if not block.startswith(b"data: ") or b"\n" in block:
        raise ProtocolViolation(f"a frame is one line, `data: ` and JSON, and a comment `: ` and text: {shown(block)}")
    data = block.removeprefix(b"data: ")
    try:
        document: Any = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise ProtocolViolation(f"a frame's data is not JSON ({exc}): {shown(data)}") from exc
    try:
        event = _EVENTS.validate_python(document)
    except ValidationError as exc:
        raise ProtocolViolation(f"a frame is no event of ChatKit's ({complaint(exc)}): {shown(data)}") from exc
    return Frame(event, cast("dict[str, Any]", document))
