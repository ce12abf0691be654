"""Hearing of the signals that end a process, without taking them from the server that acts on them."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]

_Handler = Callable[[int, FrameType | None], Any]


class EndingSignals:
    """Tells its owner of each ending signal, and passes it on to the handler that was there.

    Both kinds of handlers are met. A handler of `signal.signal`, such as uvicorn's, is called by ours. One of
    `loop.add_signal_handler` is woken by the interpreter itself, whichever function is registered, and the function
    that asyncio or uvloop has registered for it is called like any other.

    Where a signal has its default action, nobody would end the process in our place: it is left alone.
    """

    def __init__(self, told: Callable[[int], object]) -> None:
        """`told` is called with the signal's number, in the event loop."""
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[int, _Handler] = {}

    def listen(self) -> None:
        """Begins to listen. Does nothing outside of the main thread, where no signal can be heard."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        # One that is still known was not put back: somebody passes it on to us, and would be passed it in a circle.
        for number in set(_ENDING) - self._before.keys():
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._handle)

    def ignore(self) -> None:
        """Stops listening, and puts back what was there, unless somebody has replaced our handler meanwhile."""
        self._loop = None
        ours = [number for number in self._before if signal.getsignal(number) == self._handle]
        for number in ours:
            signal.signal(number, self._before.pop(number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # This runs between two instructions of whatever is being done: the loop is told, and nothing more.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told, number)
        if before := self._before.get(number):
            before(number, frame)
