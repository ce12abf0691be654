"""What a function has said before."""

from collections.abc import Callable, Hashable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def _every(_key: object) -> bool:
    return True


class Memo(dict[Key, Value]):
    """A function's answers by what it was asked, at most so many: it is emptied when it is full.

    A dictionary, because an answer that is there then costs no call: an analyser asks a million times. Which of the
    answers is the oldest is not kept, for the same reason.
    """

    def __init__(self, find: Callable[[Key], Value], *, most: int, keeps: Callable[[Key], bool] = _every) -> None:
        """Of `find`, which gives equal answers to equal keys; those that `keeps` does not name are asked anew."""
        super().__init__()
        self._find = find
        self._most = most
        self._keeps = keeps

    def __missing__(self, key: Key) -> Value:
        value = self._find(key)
        if self._keeps(key):
            if len(self) >= self._most:
                self.clear()
            self[key] = value
        return value
