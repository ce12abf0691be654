"""Server-sent events out of bytes. Does no IO."""

import re
from collections.abc import Iterator

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed

_MARK = b"\xef\xbb\xbf"
"""The byte order mark."""
_EVENT = re.compile(rb"(?:event:[^\n]*\n)?(?P<field>data:(?P<data>[^\n]*))")
"""What nearly every event is: its type, or not even that, and its data in one line."""


class EventReader:
    """Bytes of a server-sent event stream in, the data of its events out. Does no IO.

    Pieces may end anywhere, in the middle of a character or a line end. Comments and all fields but `data` are passed
    over: every event of the interface names its type in its data. An event that is not finished at the end of the
    stream is none.
    """

    def __init__(self, limit: int) -> None:
        """`limit` is the size in bytes that an event may have."""
        self._limit = limit
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0
        self._first = True
        self._after_return = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of the events that are complete now; take all of it before the next piece.

        Raises:
            ResponseFailed: an event is larger than the limit.
        """
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        if not piece:
            return
        if self._data or b"\r" in piece:
            yield from self._feed_lines(piece)
            return
        # Nearly all servers end lines with a line feed and write an event's data in one line.
        *blocks, self._line = (self._line + piece).split(b"\n\n")
        self._check(len(self._line))
        for block in blocks:
            event = _EVENT.fullmatch(block)
            if event is None:
                yield from self._feed_lines(block + b"\n\n", before=b"")
                continue
            self._first = False
            if len(block) > self._limit:
                self._check(len(block) - event.start("field"))
            yield event["data"]

    def _feed_lines(self, piece: bytes, before: bytes | None = None) -> Iterator[bytes]:
        """As `feed`, line by line."""
        begun = self._line if before is None else before
        buffer = begun + piece
        lines = buffer.splitlines()
        self._after_return = piece.endswith(b"\r")
        rest = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        if before is None:
            self._line = rest
        self._check(len(rest))
        for line in lines:
            if self._first:
                self._first = False
                line = line.removeprefix(_MARK)  # noqa: PLW2901 - the byte order mark is no part of the line
            if line.startswith(b"data:"):
                self._check(len(line))
                self._size += len(line)
                self._data.append(line[5:])
            elif not line and self._data:
                data = b"\n".join(self._data)
                self._data.clear()
                self._size = 0
                yield data

    def _check(self, more: int) -> None:
        if self._size + more > self._limit:
            raise ResponseFailed(
                f"the model server sent an event of more than {self._limit} bytes", reason=FailureReason.MALFORMED
            )
