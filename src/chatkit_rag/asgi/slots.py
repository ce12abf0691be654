"""How many answers each reader has under way in this process."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from chatkit_rag.errors import TooManyStreams


class StreamSlots:
    """As many at a time as a reader may have."""

    def __init__(self, limit: int) -> None:
        """`limit` for each reader; 0 for none."""
        self._limit = limit
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def taken(self, owner: tuple[str, str]) -> Generator[None]:
        """One of the slots of `owner`, as long as the context lasts.

        Raises:
            TooManyStreams: all of them are taken.
        """
        if 0 < self._limit <= self._taken[owner]:
            raise TooManyStreams(
                "too many answers are under way: wait until one of them has ended", details={"limit": self._limit}
            )
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
