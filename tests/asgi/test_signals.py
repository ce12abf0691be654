"""Hearing of signals without taking them from those who heard them before."""

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from chatkit_rag.asgi.signals import EndingSignals

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Server:
    """What uvicorn does: a handler of its own, before the app starts."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle)

    def handle(self, number: int, _frame: object) -> None:
        self.heard.append(number)


class Told:
    """Whom our signals are for."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.signals = EndingSignals(self.numbers.append)


async def deliver(number: int) -> None:
    """Returns when the signal has been handled, and the loop has done what that asked for."""
    signal.raise_signal(number)
    await asyncio.sleep(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_both_we_and_the_server_hear(number: int):
    server, told = Server(), Told()
    told.signals.listen()

    await deliver(number)

    assert (told.numbers, server.heard) == ([number], [number])


async def test_the_server_hears_alone_once_we_ignore_them():
    server, told = Server(), Told()
    told.signals.listen()
    told.signals.ignore()

    await deliver(signal.SIGTERM)

    assert (told.numbers, server.heard) == ([], [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) == server.handle


async def test_listening_twice_is_listening_once_and_can_begin_anew():
    server, told = Server(), Told()
    told.signals.listen()
    told.signals.listen()
    await deliver(signal.SIGTERM)
    told.signals.ignore()

    told.signals.listen()
    await deliver(signal.SIGTERM)

    assert (told.numbers, server.heard) == ([signal.SIGTERM] * 2, [signal.SIGTERM] * 2)


async def test_a_handler_of_the_event_loop_s_hears_as_well():
    heard, told, loop = asyncio.Event(), Told(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        told.signals.listen()

        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            await heard.wait()

        assert told.numbers == [signal.SIGTERM]
        told.signals.ignore()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
async def test_where_nobody_ends_the_process_in_an_orderly_way_the_signal_is_left_alone(action: signal.Handlers):
    signal.signal(signal.SIGTERM, action)
    told = Told()

    told.signals.listen()

    assert signal.getsignal(signal.SIGTERM) == action


async def test_another_thread_than_the_main_one_hears_nothing_and_does_no_harm():
    server, told = Server(), Told()

    thread = threading.Thread(target=lambda: asyncio.run(listening(told.signals)))
    thread.start()
    thread.join(5)
    await deliver(signal.SIGTERM)

    assert not thread.is_alive()
    assert (told.numbers, server.heard) == ([], [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) == server.handle


async def test_two_apps_hear_and_may_end_in_any_order():
    server, first, second = Server(), Told(), Told()
    first.signals.listen()
    second.signals.listen()
    await deliver(signal.SIGTERM)

    first.signals.ignore()  # the other's handler calls this one's, which passes the signal on
    await deliver(signal.SIGTERM)
    first.signals.listen()
    await deliver(signal.SIGTERM)
    second.signals.ignore()
    first.signals.ignore()
    await deliver(signal.SIGTERM)

    assert server.heard == [signal.SIGTERM] * 4
    assert len(second.numbers) == 3
    assert len(first.numbers) == 2
    assert signal.getsignal(signal.SIGTERM) == server.handle


async def test_a_handler_that_came_after_ours_stays():
    told = Told()
    Server()
    told.signals.listen()
    later = Server()

    told.signals.ignore()
    await deliver(signal.SIGTERM)

    assert later.heard == [signal.SIGTERM]


def test_a_signal_after_the_loop_is_closed_is_passed_on():
    server, told = Server(), Told()
    asyncio.run(listening(told.signals))

    signal.raise_signal(signal.SIGTERM)

    assert (told.numbers, server.heard) == ([], [signal.SIGTERM])


async def listening(signals: EndingSignals) -> None:
    signals.listen()
