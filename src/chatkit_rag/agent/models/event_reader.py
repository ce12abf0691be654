"""Server-sent events out of bytes. Does no IO."""

from collections.abc import Iterator

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed


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
        buffer = self._line + piece
        # An event that comes in many pieces is not searched for line ends from its beginning each time.
        lines = buffer.splitlines() if b"\n" in piece or b"\r" in piece else [buffer]
        self._after_return = piece.endswith(b"\r")
        self._line = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        self._check(len(self._line))
        for line in lines:
            if self._first:
                self._first = False
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - the byte order mark is no part of the line
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
