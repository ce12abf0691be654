"""How an app comes to its end: no new answers, time for those under way, and an end for those that take too long.

A server such as uvicorn waits for its connections before it says by the lifespan that it stops, and a stream is a
connection. So the end begins with the signal that ends the process, and with the lifespan's shutdown only where no
signal came.

    SIGTERM ─► begin: new answers are refused ─► drain_seconds ─► the rest are cut, stored, and their readers told
                                                                  ─► the connections end ─► lifespan shutdown
"""

import asyncio
import logging
import signal

from chatkit_rag.asgi.signals import EndingSignals
from chatkit_rag.asgi.tasks import TaskOwner
from chatkit_rag.errors import ServerStopping

_log = logging.getLogger(__name__)


class Draining:
    """The end of the tasks of `owner`, once or, for an app that is started anew, once each time."""

    def __init__(self, owner: TaskOwner, *, within: float) -> None:
        """`within` is the time, in seconds, that tasks have to end by themselves."""
        self._owner = owner
        self._within = within
        self._signals = EndingSignals(self._on_signal)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def begun(self) -> bool:
        """Whether the app is about to end."""
        return self._timer is not None

    def refuse_if_begun(self) -> None:
        """Raises `ServerStopping` where the app is about to end."""
        if self.begun:
            raise ServerStopping("this server is about to stop: try again in a moment")

    def begin_on_signal(self) -> None:
        """Begins with the signal that ends the process; on a second SIGINT the tasks have no more time."""
        self._signals.listen()

    async def finish(self) -> None:
        """Returns when no task runs any more. Begins where nothing else has; the app can be started anew then."""
        timer = self._begin()
        try:
            await self._owner.drain(within=max(0.0, timer.when() - asyncio.get_running_loop().time()))
        finally:
            timer.cancel()
            self._timer = None
            self._signals.ignore()

    def _begin(self) -> asyncio.TimerHandle:
        if self._timer is None:
            _log.info("stopping: answers under way have %g seconds to end", self._within)
            self._timer = asyncio.get_running_loop().call_later(self._within, self._owner.stop)
        return self._timer

    def _on_signal(self, number: int) -> None:
        # As uvicorn has it: Ctrl-C once more means now, a supervisor's SIGTERM after the terminal's SIGINT does not.
        if self.begun and number == signal.SIGINT:
            self._owner.stop()
        self._begin()
