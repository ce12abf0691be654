"""Frames on their way from the producer to the reader, and the tasks that an app owns."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest

from chatkit_rag.asgi.mailbox import Mailbox
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
        assert await mailbox.take() == b"onetwo"
        assert await mailbox.take() is None
        assert mailbox.complete

    async def test_a_reader_waits_for_the_next_frame(self):
        mailbox = Mailbox(100)
        taking = await settled(mailbox.take())
        assert not taking.done()

        await mailbox.put(b"one")

        assert await taking == b"one"

    async def test_the_last_frame_goes_into_a_full_one_and_lets_the_producer_go_on(self):
        mailbox = Mailbox(1)
        await mailbox.put(b"1")
        putting = await settled(mailbox.put(b"2"))
        assert not putting.done()

        mailbox.end(b"3")
        await putting
        mailbox.end(b"4")

        assert await mailbox.take() == b"13"
        assert await mailbox.take() is None
        assert mailbox.complete

    async def test_a_full_one_makes_the_producer_wait_until_it_is_emptied(self):
        mailbox = Mailbox(5)
        await mailbox.put(b"1234")
        await mailbox.put(b"5678")
        putting = await settled(mailbox.put(b"9"))
        assert not putting.done()

        assert await mailbox.take() == b"12345678"

        await putting
        assert await mailbox.take() == b"9"

    async def test_an_abandoned_one_lets_the_producer_go_on_and_keeps_nothing(self):
        mailbox = Mailbox(1)
        await mailbox.put(b"1")
        putting = await settled(mailbox.put(b"2"))
        assert not putting.done()

        mailbox.abandon()
        await putting
        for _ in range(3):
            await mailbox.put(b"3")

        assert await mailbox.take() is None
        assert not mailbox.complete

    async def test_a_waiting_reader_learns_that_it_was_abandoned(self):
        mailbox = Mailbox(100)
        taking = await settled(mailbox.take())

        mailbox.abandon()

        assert await taking is None

    async def test_an_end_after_it_was_abandoned_does_not_complete_it(self):
        mailbox = Mailbox(100)
        mailbox.abandon()
        mailbox.end()

        assert await mailbox.take() is None
        assert not mailbox.complete


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

    async def test_a_task_that_is_stopped_before_its_first_step_still_tidies_up(self):
        owner, tidied = TaskOwner(), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                tidied.set()

        task = owner.start(work(), name="work")
        owner.stop()
        await asyncio.wait({task}, timeout=5)

        assert task.cancelled()
        assert tidied.is_set()

    async def test_what_is_started_in_a_stopped_one_is_stopped_as_well(self):
        owner = TaskOwner()
        owner.stop()

        task = owner.start(asyncio.Event().wait(), name="work")
        await asyncio.wait({task}, timeout=5)

        assert task.cancelled()

    async def test_it_stops_tasks_in_the_way_they_ask_for(self):
        owner, asked = TaskOwner(), asyncio.Event()
        owner.start(asked.wait(), name="work", stop=asked.set)

        await owner.drain(within=0)

        assert asked.is_set()

    async def test_after_draining_tasks_run_again(self):
        owner = TaskOwner()
        await owner.drain(within=0)

        task = owner.start(asyncio.sleep(0), name="work")
        await task

        assert not task.cancelled()

    async def test_a_task_that_does_not_end_is_left_behind(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        monkeypatch.setattr("chatkit_rag.asgi.tasks._TIDYING_SECONDS", 0.05)
        owner, going = TaskOwner(), asyncio.Event()

        async def work() -> None:
            while not going.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await going.wait()

        task = owner.start(work(), name="stubborn")
        await owner.drain(within=0)

        assert not task.done()
        assert "'stubborn'" in caplog.text
        going.set()
        await task
