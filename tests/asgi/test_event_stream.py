"""One stream from its first step to its last, with a client that is written by hand."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from chatkit_rag.asgi.streaming import EventStream, StreamOptions
from chatkit_rag.asgi.tasks import TaskOwner

pytestmark = pytest.mark.anyio

FAILED = b'data: {"type":"error","code":"stream.error","allow_retry":true}\n\n'


class Frames:
    """Frames as a turn makes them: one, then nothing more until it is told to go on, and something to tidy up."""

    def __init__(self) -> None:
        self.going_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.tidied = asyncio.Event()

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            self.begun.set()
            yield b"data: 1\n\n"
            await self.going_on.wait()
            yield b"data: 2\n\n"
        finally:
            await asyncio.sleep(0)
            self.tidied.set()


class Client:
    """Both ends of ASGI; a client that stays and reads, unless it is told otherwise."""

    def __init__(self, send: Callable[[], Any] | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self._send = send

    @property
    def stream(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False

    async def send(self, message: Any) -> None:
        if self._send is not None:
            await self._send()
        self.sent.append(message)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def sees(self, piece: bytes) -> None:
        async with asyncio.timeout(5):
            while piece not in self.stream:
                await asyncio.sleep(0.001)

    async def gets(self, stream: EventStream) -> None:
        async with asyncio.timeout(5):
            await stream({}, self.receive, self.send)


async def refuses() -> None:
    raise OSError("the client is gone")


async def never() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def owner() -> TaskOwner:
    return TaskOwner()


class TestEnding:
    async def test_a_whole_stream_ends_as_http_says_and_tells_who_waits_for_its_end(self, owner: TaskOwner):
        frames, client, ended = Frames(), Client(), asyncio.Event()
        frames.going_on.set()

        await client.gets(EventStream(frames(), owner, ended=ended.set))

        assert client.stream == b"data: 1\n\ndata: 2\n\n"
        assert client.complete
        assert ended.is_set()

    async def test_frames_that_fail_end_in_an_error_event_without_the_exception_s_text(self, owner: TaskOwner):
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: 1\n\n"
            raise RuntimeError("hunter2")

        client = Client()

        await client.gets(EventStream(frames(), owner))

        assert client.sent[0]["status"] == 200
        assert client.stream == b"data: 1\n\n" + FAILED
        assert client.complete

    async def test_frames_that_cannot_be_closed_end_in_one_too(self, owner: TaskOwner):
        class Stubborn:
            closed = 0

            def __aiter__(self):
                return self

            async def __anext__(self):
                raise StopAsyncIteration

            async def aclose(self):
                self.closed += 1
                raise RuntimeError("cannot close")

        frames, client = Stubborn(), Client()

        await client.gets(EventStream(frames, owner))

        assert frames.closed == 1
        assert client.stream == FAILED
        assert client.complete


class TestTime:
    async def test_each_silence_is_filled_with_a_comment(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        stream = EventStream(frames(), owner, StreamOptions(ping_seconds=0.02))

        reading = asyncio.ensure_future(client.gets(stream))
        await client.sees(b": ping\n\n: ping\n\n")
        frames.going_on.set()
        await reading

        assert client.stream.startswith(b"data: 1\n\n: ping\n\n")
        assert client.stream.endswith(b": ping\n\ndata: 2\n\n")

    async def test_a_write_that_waits_too_long_gives_the_reader_up(self, owner: TaskOwner):
        frames, client = Frames(), Client(never)
        stream = EventStream(frames(), owner, StreamOptions(stall_seconds=0.05, ping_seconds=0.01))

        await client.gets(stream)
        await asyncio.wait_for(frames.tidied.wait(), 5)

        assert client.sent == []

    async def test_a_write_that_waits_less_does_not(self, owner: TaskOwner):
        async def slowly() -> None:
            await asyncio.sleep(0.05)

        frames, client = Frames(), Client(slowly)
        frames.going_on.set()

        await client.gets(EventStream(frames(), owner, StreamOptions(stall_seconds=10, ping_seconds=0.01)))

        assert client.stream.replace(b": ping\n\n", b"") == b"data: 1\n\ndata: 2\n\n"
        assert client.complete

    async def test_words_that_come_all_the_time_leave_no_room_for_comments(self, owner: TaskOwner):
        async def frames() -> AsyncGenerator[bytes, None]:
            for _ in range(250):
                yield b"data: 1\n\n"
                await asyncio.sleep(0.005)

        client = Client()

        await client.gets(EventStream(frames(), owner, StreamOptions(ping_seconds=1.0)))

        assert client.stream == b"data: 1\n\n" * 250

    async def test_a_response_that_nobody_asks_for_is_given_up(self, owner: TaskOwner):
        frames, ended = Frames(), asyncio.Event()

        EventStream(frames(), owner, StreamOptions(stall_seconds=0.02), ended=ended.set)

        await asyncio.wait_for(ended.wait(), 5)
        assert frames.tidied.is_set()


class TestLeaving:
    async def test_a_client_that_is_gone_before_the_first_frame_lets_the_frames_tidy_up(self, owner: TaskOwner):
        frames, client, ended = Frames(), Client(refuses), asyncio.Event()
        client.gone.set()

        await client.gets(EventStream(frames(), owner, ended=ended.set))

        await asyncio.wait_for(ended.wait(), 5)
        assert frames.begun.is_set()
        assert frames.tidied.is_set()
        assert len(owner) == 0

    async def test_a_client_that_leaves_stops_the_frames(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner)))
        await client.sees(b"data: 1")

        client.gone.set()
        await reading

        await asyncio.wait_for(frames.tidied.wait(), 5)
        assert client.stream == b"data: 1\n\n"
        assert not client.complete

    async def test_a_request_that_is_cancelled_stops_the_frames(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner)))
        await client.sees(b"data: 1")

        reading.cancel()
        await asyncio.wait({reading})

        await asyncio.wait_for(frames.tidied.wait(), 5)
        assert reading.cancelled()

    async def test_frames_that_are_to_be_finished_are(self, owner: TaskOwner):
        frames, client, ended = Frames(), Client(refuses), asyncio.Event()
        await client.gets(EventStream(frames(), owner, StreamOptions(on_disconnect="finish"), ended=ended.set))
        await frames.begun.wait()
        assert not ended.is_set()

        frames.going_on.set()

        await asyncio.wait_for(ended.wait(), 5)
        assert frames.tidied.is_set()


class TestStopping:
    async def test_a_reader_who_is_still_there_is_told_once_and_after_the_frames_have_tidied_up(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner)))
        await client.sees(b"data: 1")
        assert not frames.tidied.is_set()

        owner.stop()
        await client.sees(b'"error"')

        assert frames.tidied.is_set()
        await reading
        first, last, rest = client.stream.split(b"\n\n")
        assert (first, rest) == (b"data: 1", b"")
        assert last == (
            b'data: {"type":"error","code":"custom",'
            b'"message":"The server is being restarted. Please try again in a moment.","allow_retry":true}'
        )
        assert client.complete

    async def test_a_full_mailbox_has_room_for_it(self, owner: TaskOwner):
        going, waiting = asyncio.Event(), asyncio.Event()

        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: 1\n\n"
            waiting.set()
            yield b"data: 2\n\n"

        client = Client(going.wait)
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner, StreamOptions(buffer_bytes=1))))
        await waiting.wait()

        owner.stop()
        await asyncio.sleep(0.01)
        going.set()
        await reading

        assert client.stream.startswith(b"data: 1\n\ndata: {")
        assert client.stream.count(b"data: ") == 2
        assert b'"error"' in client.stream

    async def test_frames_that_do_not_end_do_not_keep_the_reader(
        self, owner: TaskOwner, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("chatkit_rag.asgi.streaming._STORING_SECONDS", 0.02)
        released = asyncio.Event()

        async def frames() -> AsyncGenerator[bytes, None]:
            try:
                yield b"data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                await released.wait()

        client = Client()
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner)))
        await client.sees(b"data: 1")

        owner.stop()
        await reading

        assert client.stream.count(b'"error"') == 1
        assert len(owner) == 1
        released.set()
        await owner.drain(within=5)
        assert client.stream.count(b'"error"') == 1

    async def test_a_reader_who_does_not_read_does_not_keep_the_server(
        self, owner: TaskOwner, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("chatkit_rag.asgi.streaming._GOODBYE_SECONDS", 0.02)
        frames, client = Frames(), Client(never)
        reading = asyncio.ensure_future(client.gets(EventStream(frames(), owner)))
        await asyncio.wait_for(frames.begun.wait(), 5)

        owner.stop()

        await reading
        assert client.sent == []
        assert frames.tidied.is_set()

    async def test_a_stream_that_begins_when_all_is_stopped_is_told_at_once(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        owner.stop()

        await client.gets(EventStream(frames(), owner))

        assert client.stream.startswith(b"data: 1\n\ndata: {")
        assert client.stream.count(b'"error"') == 1
        assert client.complete
        assert frames.tidied.is_set()

    async def test_one_whose_write_failed_is_stopped_without_a_word(
        self, owner: TaskOwner, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("chatkit_rag.asgi.streaming._GOODBYE_SECONDS", 0.0)
        loop_errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, error: loop_errors.append(error))
        frames, client = Frames(), Client(refuses)
        await client.gets(EventStream(frames(), owner, StreamOptions(on_disconnect="finish")))

        await owner.drain(within=0)
        await asyncio.sleep(0.01)

        assert frames.tidied.is_set()
        assert loop_errors == []

    async def test_one_whose_reader_has_left_says_nothing(self, owner: TaskOwner):
        frames, client = Frames(), Client()
        stream = EventStream(frames(), owner, StreamOptions(on_disconnect="finish"))
        reading = asyncio.ensure_future(client.gets(stream))
        await client.sees(b"data: 1")
        client.gone.set()
        await reading

        await owner.drain(within=0)

        assert frames.tidied.is_set()
        assert client.stream == b"data: 1\n\n"
