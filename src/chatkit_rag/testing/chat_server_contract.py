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

import pytest

from chatkit_rag.testing.chat_server.extras import Extras
from chatkit_rag.testing.chat_server.part import CAPABILITIES
from chatkit_rag.testing.chat_server.refusals import Refusals
from chatkit_rag.testing.chat_server.threads import Threads
from chatkit_rag.testing.chat_server.turns import Turns
from chatkit_rag.testing.contract import Contract

__all__ = ["CAPABILITIES", "ChatServerContract"]


@pytest.mark.anyio
class ChatServerContract(Contract, Turns, Threads, Refusals, Extras):
    """What every ChatKit server promises on the wire; a class to subclass in a test file."""

    subject = "the server"
    known = CAPABILITIES
