"""Frames on their way from one producer to one reader. Nothing here knows what a frame is, or looks at a clock."""

import asyncio


class Mailbox:
    """Frames on their way from one producer to one reader; a full one makes the producer wait."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes; the frame that exceeds it is taken, the next one waits."""
        self._capacity = capacity
        self._frames: list[bytes] = []
        self._size = 0
        self._ended = False
        self._abandoned = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def complete(self) -> bool:
        """Whether the last frame was taken."""
        return self._ended and not self._abandoned and not self._frames

    @property
    def is_full(self) -> bool:
        """Whether the next frame should wait."""
        return self._size >= self._capacity

    async def put(self, frame: bytes) -> None:
        """Adds a frame; waits while the mailbox is full, and drops the frame when nobody will read it."""
        if self.is_full:
            await self._room.wait()
        self.add(frame)

    def add(self, frame: bytes) -> None:
        """Adds a frame, also to a full mailbox; drops it when nobody will read it."""
        if self._ended or self._abandoned:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= self._capacity:
            self._room.clear()
        if len(self._frames) == 1:
            self._changed.set()

    def end(self, last: bytes = b"") -> None:
        """No frame will follow `last`. Only the first call counts."""
        if last:
            self.add(last)
        self._ended = True
        self._room.set()
        self._changed.set()

    def abandon(self) -> None:
        """Nobody reads any more."""
        self._abandoned = True
        self._frames.clear()
        self._room.set()
        self._changed.set()

    async def take(self) -> bytes | None:
        """All frames that wait, as one piece; None after the last, or when the mailbox was abandoned."""
        if not (self._frames or self._ended or self._abandoned):
            self._changed.clear()
            await self._changed.wait()
        if not self._frames:
            return None
        piece = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        self._room.set()
        return piece
