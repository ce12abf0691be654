"""Work that must end although its caller is cancelled."""

import asyncio
import gc
from collections.abc import Callable

import anyio
import pytest

from chatkit_rag.stores.shielding import run_to_end

pytestmark = pytest.mark.anyio


class Work:
    """Work that waits to be released, and tells how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = ""

    async def run(self) -> str:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        return "result"


async def test_the_result_is_the_works():
    work = Work()
    work.release.set()

    assert await run_to_end(work.run()) == "result"


async def test_an_error_is_the_works():
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_to_end(fail())


async def test_a_cancelled_caller_stays_until_the_work_is_done():
    work = Work()
    caller = asyncio.ensure_future(run_to_end(work.run()))
    await work.started.wait()

    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    work.release.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended == "done"


async def test_cancelling_again_and_again_does_not_cut_it_short():
    work = Work()
    caller = asyncio.ensure_future(run_to_end(work.run()))
    await work.started.wait()

    for _ in range(5):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    work.release.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended == "done"


async def test_a_cancelled_scope_around_it_lets_the_work_end(monkeypatch: pytest.MonkeyPatch):
    work = Work()
    waits: list[object] = []
    real = asyncio.wait
    monkeypatch.setattr(asyncio, "wait", lambda *tasks, **named: waits.append(tasks) or real(*tasks, **named))

    async def release_when_cancelled(scope: anyio.CancelScope) -> None:
        await work.started.wait()
        scope.cancel()
        asyncio.get_running_loop().call_later(0.02, work.release.set)

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(release_when_cancelled, scope)
            await run_to_end(work.run())

    assert scope.cancelled_caught
    assert work.ended == "done"
    assert len(waits) == 1  # it slept: such a scope cancels again and again, and could keep the processor busy


async def test_work_begun_in_a_scope_that_is_already_cancelled_is_done_all_the_same():
    work = Work()
    work.release.set()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_to_end(work.run())

    assert scope.cancelled_caught
    assert work.ended == "done"


async def test_work_that_does_not_end_in_time_is_cancelled_with_its_caller():
    work = Work()
    caller = asyncio.ensure_future(run_to_end(work.run(), within=0.01))
    await work.started.wait()

    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended == "cancelled"


async def test_without_a_cancellation_the_work_has_all_the_time_that_it_needs():
    work = Work()
    asyncio.get_running_loop().call_later(0.05, work.release.set)

    assert await run_to_end(work.run(), within=0.0) == "result"


async def test_an_error_behind_a_cancelled_caller_does_not_hide_the_cancellation(
    loop_complaints: Callable[[], list[str]],
):
    started = asyncio.Event()

    async def fail() -> None:
        started.set()
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    caller = asyncio.ensure_future(run_to_end(fail()))
    await started.wait()
    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert loop_complaints() == []


@pytest.fixture
async def loop_complaints() -> Callable[[], list[str]]:
    """What the event loop complained about so far, such as errors that nobody looked at."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: complaints.append(about["message"]))

    def collect() -> list[str]:
        gc.collect()
        return complaints

    return collect
