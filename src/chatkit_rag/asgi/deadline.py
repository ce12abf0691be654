"""A moment that can be put off for next to nothing."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Rings once when its moment comes, if it is not moved until then.

    `asyncio.timeout` makes and cancels a timer each time; for a stream that is twice a word. Here a later moment is
    only noted: the one timer that runs finds it when it fires, and is set anew.
    """

    def __init__(self, ring: Callable[[], object]) -> None:
        """`ring` is called from the event loop, outside of any task."""
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._moment = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def move(self, seconds: float) -> None:
        """It rings in `seconds` from now, whatever was set before."""
        self._moment = moment = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(moment, self._fire)
        elif moment < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(moment, self._fire)

    def cancel(self) -> None:
        """It does not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        if self._loop.time() < self._moment:
            self._timer = self._loop.call_at(self._moment, self._fire)
        else:
            self._timer = None
            self._ring()
