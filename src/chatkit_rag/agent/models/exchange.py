"""One HTTP response of the Responses interface while it is read: its events, and the time that it may take."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import aiohttp
import orjson

from chatkit_rag.agent.models.event_reader import EventReader
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed, failure, malformed

TEXT_DELTA = "response.output_text.delta"
COMPLETED = "response.completed"
_BEFORE_OUTPUT = {"response.created", "response.queued", "response.in_progress"}
_FAILURES = {"error", "response.error", "response.failed", "response.incomplete"}
_NEEDED: dict[str, tuple[str, type]] = {
    TEXT_DELTA: ("delta", str),
    "response.output_item.added": ("item", dict),
    "response.output_item.done": ("item", dict),
    COMPLETED: ("response", dict),
}
"""What a reader of raw events may rely on."""

_DRAIN_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesOptions:
    """How long to wait, and how often to try; times in seconds."""

    connect_seconds: float = 5.0
    first_token_seconds: float = 30.0
    """From the request to the model's first output; a reasoning model thinks before it."""
    idle_seconds: float = 20.0
    """Silence between two pieces of an answer."""
    total_seconds: float = 3600.0
    """The whole answer, retries included. For whoever asks outside of a turn: a turn has a time of its own."""
    attempts: int = 3
    """Requests in all; another one is made only while there was no output, and nothing to show was lost."""
    retry_wait_seconds: float = 0.5
    """The wait before the second attempt, doubled for each further one, with as much jitter again."""
    retry_after_seconds: float = 20.0
    """The longest wait that a server's Retry-After is granted; one that asks for more fails at once."""
    event_bytes: int = 4 * 1024 * 1024
    """The largest event; the last one of an answer holds all of it."""
    proxy: str | None = None
    """The proxy's address. The environment is not asked: aiohttp would read it in a thread for every request."""


class Exchange:
    """One HTTP response while it is read.

    One timer watches over all reads: a time-out around each of them would cost more than the parsing.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        options: ResponsesOptions,
        clean: Callable[[str], str],
        *,
        first_by: float,
        end_by: float,
    ) -> None:
        self._response = response
        self._clean = clean
        self._reader = EventReader(options.event_bytes)
        self._idle_seconds = options.idle_seconds
        self._first_by: float | None = first_by
        self._end_by = end_by
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._expired = ""
        self._failed: ResponseFailed | None = None
        self.is_complete = False
        """Whether the response's last event was read."""
        self._timer = self._loop.call_at(min(first_by, self._loop.time() + self._idle_seconds), self._look)

    async def read_to_first_output(self) -> Iterator[dict[str, Any]]:
        """The events up to the first that is output, and those that came with it."""
        held: list[dict[str, Any]] = []
        while True:
            events = await self.read()
            for event in events:
                held.append(event)
                if event["type"] not in _BEFORE_OUTPUT:
                    self._first_by = None
                    return chain(held, events)

    async def read(self) -> Iterator[dict[str, Any]]:
        """The events of the next piece, perhaps none; take all of them before the next piece.

        They are made one by one: hundreds at once would be much to hold, and to look through for the garbage collector.
        Where one is broken, those before it count, and the next call tells of it.

        Raises:
            ResponseFailed: the connection broke or ended, a time-out closed it, or an event was broken.
        """
        if self._failed is not None:
            raise self._failed
        self._waiting_since = self._loop.time()
        try:
            piece = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as exc:
            raise self._broken() from exc
        finally:
            self._waiting_since = None
        if not piece:
            raise self._broken()
        return self._events(piece)

    async def drain(self) -> None:
        """Takes the end of the body in, so that the connection can be used again; not for long."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._response.content.is_eof():
                    await self._response.content.readany()
        except (aiohttp.ClientError, OSError):
            pass  # the answer is whole; the connection is closed instead

    def close(self) -> None:
        """Gives up what was not read, the connection with it; returns at once."""
        self._timer.cancel()
        self._response.close()

    def _look(self) -> None:
        now = self._loop.time()
        due, complaint = self._due(now)
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._expired = complaint
            self._response.close()

    def _due(self, now: float) -> tuple[float, str]:
        if self._first_by is not None:
            return self._first_by, "the model did not begin to answer in time"
        # Time in which nobody reads is not the server's silence.
        idle = (now if self._waiting_since is None else self._waiting_since) + self._idle_seconds
        return min((idle, "the model stopped in the middle of its answer"), (self._end_by, "the answer took too long"))

    def _broken(self) -> ResponseFailed:
        if self._expired:
            return ResponseFailed(self._expired, reason=FailureReason.TIMEOUT)
        return ResponseFailed("the model server cut the answer off", reason=FailureReason.UNAVAILABLE)

    def _events(self, piece: bytes) -> Iterator[dict[str, Any]]:
        try:
            for data in self._reader.feed(piece):
                if (event := self._event(data)) is not None:
                    self.is_complete = event["type"] == COMPLETED
                    yield event
                    if self.is_complete:
                        return
        except ResponseFailed as exc:
            self._failed = exc

    def _event(self, data: bytes) -> dict[str, Any] | None:
        """The event, when it is one to pass on."""
        try:
            event: Any = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            if data.strip() == b"[DONE]":
                raise self._broken() from None  # the answer ends with `response.completed`, which did not come
            raise malformed() from exc
        if not isinstance(event, dict):
            raise malformed()
        known = cast("dict[str, Any]", event)
        type_ = known.get("type")
        if type_ == TEXT_DELTA and type(known.get("delta")) is str:  # nearly every event
            return known
        if type_ in _FAILURES or (type_ is None and known.get("error")):
            raise failure(known, self._clean)
        if not isinstance(type_, str):
            return None
        if (needed := _NEEDED.get(type_)) and not isinstance(known.get(needed[0]), needed[1]):
            raise malformed()
        return known
