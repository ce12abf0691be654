"""`StreamedAnswer`: one streamed answer, read whole or event by event, and what it tells."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from chatkit.types import (
    Annotation,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ErrorEvent,
    Thread,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
    UserMessageItem,
)
from pydantic import BaseModel

from chatkit_rag.testing.frames import Frame, FrameReader, ProtocolViolation

Kind = TypeVar("Kind", bound=BaseModel)


class StreamedAnswer:
    """An answer that is read to its end when it is awaited, and as it comes in an `async with`.

        answer = await client.create_thread("What is a node?")

        async with client.create_thread("What is a node?") as answer:
            async for event in answer:
                break

    A reader who leaves the `async with` early closes the connection, as a browser does whose page is closed. An
    iteration that was left can be taken up again within the block. Nothing is sent before either begins.

    Afterwards, or meanwhile, the properties tell what has come. Those that name something which has not come raise
    AssertionError with the events that have.
    """

    def __init__(self, open_stream: Callable[[], Awaitable[httpx.Response]]) -> None:
        """`open_stream` sends the request, and returns an accepted one's answer, its body unread."""
        self._open_stream = open_stream
        self._response: httpx.Response | None = None
        self._incoming: AsyncGenerator[Frame, None] | None = None
        self._frames: list[Frame] = []
        self._complete = False

    def __await__(self) -> Generator[Any, None, Self]:
        return self._to_the_end().__await__()

    async def __aenter__(self) -> Self:
        self._response = await self._open_stream()
        self._incoming = _frames(self._response)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ThreadStreamEvent:
        if self._incoming is None:
            raise RuntimeError("a streamed answer is read within its `async with`, or awaited as a whole")
        try:
            frame = await anext(self._incoming)
        except StopAsyncIteration:
            self._complete = True
            raise
        self._frames.append(frame)
        return frame.event

    async def aclose(self) -> None:
        """Closes the connection; a server sees its reader leave, unless the stream was read to its end."""
        if self._incoming is not None:
            await self._incoming.aclose()
            self._incoming = None
        if self._response is not None:
            await self._response.aclose()

    @property
    def complete(self) -> bool:
        """Whether the stream was read to its end."""
        return self._complete

    @property
    def headers(self) -> httpx.Headers:
        """The response's headers; there are none before the request is sent."""
        return self._response.headers if self._response is not None else httpx.Headers()

    @property
    def events(self) -> list[ThreadStreamEvent]:
        """What has come, in order."""
        return [frame.event for frame in self._frames]

    @property
    def json(self) -> list[dict[str, Any]]:
        """The events as they came, with the fields that ChatKit's types do not know."""
        return [frame.json for frame in self._frames]

    @property
    def kinds(self) -> list[str]:
        """The events' types, updates by the type of the update."""
        return [event.update.type if isinstance(event, ThreadItemUpdatedEvent) else event.type for event in self.events]

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events, or the updates, of one class of `chatkit.types`."""
        updates = [event.update for event in self.events if isinstance(event, ThreadItemUpdatedEvent)]
        return [one for one in (*self.events, *updates) if isinstance(one, kind)]

    @property
    def thread(self) -> Thread:
        """The thread as the newest event about it has it; only an answer that makes or changes it has one."""
        threads = [event.thread for event in self.events if isinstance(event, ThreadCreatedEvent | ThreadUpdatedEvent)]
        return self._last(threads, "thread.created")

    @property
    def items(self) -> list[ThreadItem]:
        """The items that were finished, in order, each as it was last sent."""
        return list({event.item.id: self.item(event.item.id) for event in self.of(ThreadItemDoneEvent)}.values())

    def item(self, item_id: str) -> ThreadItem:
        """The item as it was last sent whole: when it was added, finished or replaced."""
        whole = (ThreadItemAddedEvent, ThreadItemDoneEvent, ThreadItemReplacedEvent)
        items = [event.item for event in self.events if isinstance(event, whole) and event.item.id == item_id]
        return self._last(items, f"item {item_id}")

    @property
    def question(self) -> UserMessageItem:
        """The reader's message as it was stored."""
        return self._last([item for item in self.items if isinstance(item, UserMessageItem)], "finished question")

    @property
    def reply(self) -> AssistantMessageItem:
        """The assistant's last message as it was stored."""
        return self._last([item for item in self.items if isinstance(item, AssistantMessageItem)], "finished reply")

    @property
    def text(self) -> str:
        """The reply's text."""
        return "".join(part.text for part in self.reply.content)

    @property
    def annotations(self) -> list[Annotation]:
        """The reply's citations."""
        return [annotation for part in self.reply.content for annotation in part.annotations]

    @property
    def deltas(self) -> list[str]:
        """The text of the assistant's messages as it came."""
        return [update.delta for update in self.of(AssistantMessageContentPartTextDelta)]

    @property
    def errors(self) -> list[ErrorEvent]:
        """The error events."""
        return self.of(ErrorEvent)

    async def _to_the_end(self) -> Self:
        async with self:
            async for _event in self:
                pass
        return self

    def _last(self, found: list[Any], what: str) -> Any:
        if not found:
            told = [f"{error.code}: {error.message}" for error in self.errors]
            raise AssertionError(f"the answer has no {what}; what came is {self.kinds}, with the errors {told}")
        return found[-1]


async def _frames(response: httpx.Response) -> AsyncGenerator[Frame, None]:
    reader = FrameReader()
    try:
        async for piece in response.aiter_bytes():
            for frame in reader.feed(piece):
                yield frame
    except (httpx.RemoteProtocolError, httpx.ReadError) as exc:
        raise ProtocolViolation(f"the stream was cut: {exc}") from exc
    reader.end()
