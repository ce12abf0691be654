"""A circuit breaker: what has failed several times in a row is not asked for a while."""

import time
from collections.abc import Callable


class CircuitBreaker:
    """Counts failures in a row. Open, it lets nothing through; after a pause, one attempt that decides what follows."""

    def __init__(self, *, failures: int = 3, pause: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens after so many `failures`, for `pause` seconds."""
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    def lets_through(self) -> bool:
        """Whether to try. Where the pause is over, this attempt is the only one until it has succeeded or failed."""
        if self._failures < self._most:
            return True
        now = self._clock()
        if now < self._closed_until:
            return False
        self._closed_until = now + self._pause
        return True

    def succeeded(self) -> None:
        """It works again, or still."""
        self._failures = 0

    def failed(self) -> None:
        """It did not work."""
        self._failures += 1
        if self._failures >= self._most:
            self._closed_until = self._clock() + self._pause

    def pause_for(self, seconds: float) -> None:
        """It is known for how long it will not work."""
        self._failures = self._most
        self._closed_until = self._clock() + seconds
