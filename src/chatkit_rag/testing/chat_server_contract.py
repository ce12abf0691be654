"""`ChatServerContract`: what every ChatKit server promises on the wire, as tests for any of them, ours or not.

    class TestOurServer(ChatServerContract):
        question = "How do I create a node?"
        capabilities = frozenset({"retry", "clean_errors"})

        @pytest.fixture
        async def client(self):
            async with ProtocolClient("/chatkit", app=make_app()) as client:
                yield client

The one fixture that is needed is `client`: a `ProtocolClient` of a server without threads. All else that a server may
be able to do is a capability: a word of `CAPABILITIES`, which also says what more the subclass gives. What is not
claimed is skipped, and reported as skipped.

The tests run on asyncio by anyio's pytest plugin, which is always there, and so should async fixtures.
"""

from typing import Any, ClassVar

import pytest

from chatkit_rag.testing.chat_server.extras import Extras
from chatkit_rag.testing.chat_server.part import CAPABILITIES
from chatkit_rag.testing.chat_server.refusals import Refusals
from chatkit_rag.testing.chat_server.threads import Threads
from chatkit_rag.testing.chat_server.turns import Turns

__all__ = ["CAPABILITIES", "ChatServerContract"]


@pytest.mark.anyio
class ChatServerContract(Turns, Threads, Refusals, Extras):
    """What every ChatKit server promises on the wire; a class to subclass in a test file."""

    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What the server can do besides what all can: words of `CAPABILITIES`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if unknown := cls.capabilities - CAPABILITIES.keys():
            raise TypeError(f"{cls.__name__} claims {sorted(unknown)}; there are {sorted(CAPABILITIES)}")

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """ChatKit runs on asyncio."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    def only_what_is_claimed(self, request: pytest.FixtureRequest) -> None:
        """Skips what the server does not claim to be able to."""
        missing = set(getattr(request.function, "requires", ())) - self.capabilities
        if missing:
            pytest.skip(f"the server does not claim {', '.join(sorted(missing))}")
