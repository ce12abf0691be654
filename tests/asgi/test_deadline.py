"""A moment that can be put off."""

import asyncio

import pytest

from chatkit_rag.asgi.deadline import Deadline

pytestmark = pytest.mark.anyio


class Clock:
    """The loop's own clock and timers, with a look at how many of them were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.made = 0
        call_at = loop.call_at

        def counted(*arguments, **options):
            self.made += 1
            return call_at(*arguments, **options)

        monkeypatch.setattr(loop, "call_at", counted)


async def test_it_rings_once_and_not_before_its_moment():
    loop = asyncio.get_running_loop()
    rang = asyncio.Event()
    deadline = Deadline(rang.set)

    begun = loop.time()
    deadline.move(0.05)
    async with asyncio.timeout(5):
        await rang.wait()

    assert loop.time() - begun >= 0.04
    rang.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await rang.wait()


async def test_putting_it_off_makes_no_timer_and_counts(monkeypatch: pytest.MonkeyPatch):
    loop = asyncio.get_running_loop()
    rang = asyncio.Event()
    deadline = Deadline(rang.set)
    deadline.move(0.01)
    clock = Clock(monkeypatch)

    begun = loop.time()
    for _ in range(1000):
        deadline.move(0.05)
    made = clock.made
    await asyncio.wait_for(rang.wait(), 5)

    assert made == 0
    assert loop.time() - begun >= 0.04


async def test_it_can_be_drawn_nearer():
    rang = asyncio.Event()
    deadline = Deadline(rang.set)
    deadline.move(600)

    deadline.move(0.01)

    await asyncio.wait_for(rang.wait(), 5)


async def test_it_can_be_set_again_after_it_rang():
    rang = asyncio.Event()
    deadline = Deadline(rang.set)
    deadline.move(0.01)
    await asyncio.wait_for(rang.wait(), 5)
    rang.clear()

    deadline.move(0.01)

    await asyncio.wait_for(rang.wait(), 5)


async def test_a_cancelled_one_does_not_ring():
    rang = asyncio.Event()
    deadline = Deadline(rang.set)
    deadline.move(0.01)

    deadline.cancel()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await rang.wait()
