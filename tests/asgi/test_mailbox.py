"""Frames on their way from the producer to the reader, and the tasks that an app owns."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import pytest

from chatkit_rag.asgi.streaming import EventStream, Mailbox
from chatkit_rag.asgi.tasks import TaskOwner

pytestmark = pytest.mark.anyio


async def settled(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """`work` as a task that has come as far as it can."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


class TestMailbox:
    async def test_what_waits_is_taken_as_one_piece_in_order(self):
        mailbox = Mailbox(100)
        await mailbox.put(b"one")
        await mailbox.put(b"two")
        mailbox.end()

        assert not mailbox.complete
        assert await mailbox.take(within=1) == b"onetwo"
        assert await mailbox.take(within=1) is None
        assert mailbox.complete

    async def test_a_reader_waits_for_the_next_frame(self):
        mailbox = Mailbox(100)
        taking = await settled(mailbox.take(within=5))
        assert not taking.done()

        await mailbox.put(b"one")

        assert await taking == b"one"

    async def test_a_reader_does_not_wait_for_ever(self):
        mailbox = Mailbox(100)

        with pytest.raises(TimeoutError):
            await mailbox.take(within=0.01)

        await mailbox.put(b"one")
        assert await mailbox.take(within=0.01) == b"one"

    async def test_a_full_one_makes_the_producer_wait_until_it_is_emptied(self):
        mailbox = Mailbox(5)
        await mailbox.put(b"1234")
        await mailbox.put(b"5678")
        putting = await settled(mailbox.put(b"9"))
        assert not putting.done()

        assert await mailbox.take(within=1) == b"12345678"

        await putting
        assert await mailbox.take(within=1) == b"9"

    async def test_an_abandoned_one_lets_the_producer_go_on_and_keeps_nothing(self):
        mailbox = Mailbox(1)
        await mailbox.put(b"1")
        putting = await settled(mailbox.put(b"2"))
        assert not putting.done()

        mailbox.abandon()
        await putting
        for _ in range(3):
            await mailbox.put(b"3")

        assert await mailbox.take(within=1) is None
        assert not mailbox.complete

    async def test_a_waiting_reader_learns_that_it_was_abandoned(self):
        mailbox = Mailbox(100)
        taking = await settled(mailbox.take(within=5))

        mailbox.abandon()

        assert await taking is None

    async def test_an_end_after_it_was_abandoned_does_not_complete_it(self):
        mailbox = Mailbox(100)
        mailbox.abandon()
        mailbox.end()

        assert await mailbox.take(within=1) is None
        assert not mailbox.complete


class TestEventStream:
    async def deliver(self, frames: AsyncGenerator[bytes, None]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        owner = TaskOwner()

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await asyncio.Event().wait()

        async with asyncio.timeout(5):
            await EventStream(frames, owner)({}, receive, send)
            await owner.drain(within=1)
        return sent

    async def test_frames_that_fail_end_in_an_error_event_without_the_exception_s_text(self):
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: 1\n\n"
            raise RuntimeError("hunter2")

        start, *bodies = await self.deliver(frames())

        stream = b"".join(body["body"] for body in bodies)
        assert start["status"] == 200
        assert stream == b'data: 1\n\ndata: {"type":"error","code":"stream.error","allow_retry":true}\n\n'
        assert bodies[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    async def test_a_reader_is_not_kept_waiting_by_frames_that_cannot_be_closed(self):
        class Stubborn:
            closed = 0

            def __aiter__(self):
                return self

            async def __anext__(self):
                raise StopAsyncIteration

            async def aclose(self):
                self.closed += 1
                raise RuntimeError("cannot close")

        frames = Stubborn()

        _, *bodies = await self.deliver(frames)

        assert frames.closed == 1
        assert bodies[-1]["more_body"] is False


class TestTaskOwner:
    async def test_it_knows_its_tasks_until_they_end(self):
        owner, going = TaskOwner(), asyncio.Event()

        async def work() -> None:
            await going.wait()

        task = owner.start(work(), name="work")
        assert len(owner) == 1
        going.set()
        await task
        await asyncio.sleep(0)

        assert len(owner) == 0

    async def test_it_waits_for_tasks_that_end_by_themselves(self):
        owner, ended = TaskOwner(), asyncio.Event()

        async def work() -> None:
            await asyncio.sleep(0)
            ended.set()

        owner.start(work(), name="work")
        await owner.drain(within=5)

        assert ended.is_set()
        assert len(owner) == 0

    async def test_it_cancels_those_that_do_not_and_waits_for_what_they_still_do(self):
        owner, tidied = TaskOwner(), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                tidied.set()

        owner.start(work(), name="work")
        await owner.drain(within=0.01)

        assert tidied.is_set()
        assert len(owner) == 0

    async def test_draining_nothing_returns_at_once(self):
        await TaskOwner().drain(within=5)
