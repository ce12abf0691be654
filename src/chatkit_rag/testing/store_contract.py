"""`StoreContract`: what a store of ChatKit's threads promises, as tests for any of them, ours or not.

    class TestOurStore(StoreContract):
        capabilities = frozenset({"owners", "utc", "strict_cursors"})

        @pytest.fixture
        async def store(self):
            async with OurStore() as store:
                yield store

The one fixture that is needed is `store`: an empty store with ChatKit's own twelve methods. All else that a store may
be able to do is a capability: a word of `CAPABILITIES`, which also says what more the subclass gives. What is not
claimed is skipped, and reported as skipped. Our server works on any store that keeps the rest; what the store cannot
do, it does in its own process, or not at all.

The tests run on asyncio by anyio's pytest plugin, which is always there, and so should async fixtures.
"""

import pytest

from chatkit_rag.testing.contract import Contract
from chatkit_rag.testing.store.at_once import AtOnce
from chatkit_rag.testing.store.besides import Feedback, Interrupted, Life, Patches
from chatkit_rag.testing.store.cancelling import Cancelling
from chatkit_rag.testing.store.comparison import Comparison
from chatkit_rag.testing.store.conversations import Conversations
from chatkit_rag.testing.store.coordination import Leases, RememberedRequests
from chatkit_rag.testing.store.copies import Copies
from chatkit_rag.testing.store.data import Data
from chatkit_rag.testing.store.items import Attachments, Ids, Items
from chatkit_rag.testing.store.owners import Owners
from chatkit_rag.testing.store.pages import Pages
from chatkit_rag.testing.store.part import CAPABILITIES
from chatkit_rag.testing.store.privacy import Deletions, Exports, Retention
from chatkit_rag.testing.store.threads import Threads
from chatkit_rag.testing.store.turns import Turns

__all__ = ["CAPABILITIES", "StoreContract"]


@pytest.mark.anyio
class StoreContract(
    Contract,
    Threads,
    Items,
    Attachments,
    Ids,
    Pages,
    Owners,
    Data,
    Copies,
    AtOnce,
    Cancelling,
    Patches,
    Feedback,
    Leases,
    RememberedRequests,
    Turns,
    Interrupted,
    Exports,
    Deletions,
    Retention,
    Life,
    Conversations,
    Comparison,
):
    """What a store of ChatKit's threads promises; a class to subclass in a test file."""

    subject = "the store"
    known = CAPABILITIES
