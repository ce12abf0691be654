"""What the contracts share: tests that are only for those who claim to be able to do what they ask for."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pytest

Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


def requires(*capabilities: str) -> Callable[[Method], Method]:
    """Skips the test for those who do not claim all of these."""

    def mark(method: Method) -> Method:
        method.__dict__["requires"] = capabilities
        return method

    return mark


class Contract:
    """A class of tests to subclass in a test file."""

    subject: ClassVar[str]
    """What is tested, as the reason of a skipped test calls it."""
    known: ClassVar[Mapping[str, str]]
    """Every capability, and what it is."""
    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What can be done besides what all can."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if unknown := cls.capabilities - cls.known.keys():
            raise TypeError(f"{cls.__name__} claims {sorted(unknown)}; there are {sorted(cls.known)}")

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """ChatKit runs on asyncio."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    def only_what_is_claimed(self, request: pytest.FixtureRequest) -> None:
        """Skips what is not claimed."""
        missing = set(getattr(request.function, "requires", ())) - self.capabilities
        if missing:
            pytest.skip(f"{self.subject} does not claim {', '.join(sorted(missing))}")
