"""The contract, over each of our stores and a small one of somebody else's; and that it notices what is wrong."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from chatkit.store import NotFoundError

from chatkit_rag import errors
from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import NotFound
from chatkit_rag.testing import StoreContract
from chatkit_rag.testing.store.besides import ReadFeedback
from chatkit_rag.testing.store.part import thread
from chatkit_rag.testing.store_contract import CAPABILITIES
from stores.broken_stores import BROKEN
from stores.conftest import STORES
from stores.kept_feedback import kept_feedback
from testing.stock_server import SmallStore

pytest_plugins = ["pytester"]

ALL = frozenset(CAPABILITIES)
IN_THE_PROCESS = ALL - {"lifecycle"}
"""What a store can do that has nothing to open."""


class OurContract(StoreContract):
    """The contract, with how our stores are made and their feedback is read."""

    kind: str

    @pytest.fixture
    def store(self, make_store: Callable[[str], Any]) -> Any:
        return make_store(self.kind)

    @pytest.fixture
    def read_feedback(self, store: Any) -> ReadFeedback:
        async def read(context: Any, thread_id: str, item_id: str) -> str | None:
            return await kept_feedback(store, context, thread_id, item_id)

        return read


class TestMemory(OurContract):
    kind = "memory"
    capabilities = IN_THE_PROCESS


class TestSlow(OurContract):
    kind = "slow"
    capabilities = IN_THE_PROCESS
    examples = 1  # each step takes 10 ms


class TestSQLite(OurContract):
    kind = "sqlite"
    capabilities = ALL
    examples = 25  # each write waits for the disk


class TestPostgres(OurContract):
    kind = "postgres"
    capabilities = ALL
    examples = 25  # likewise


class TestCached(OurContract):
    kind = "cached"
    capabilities = ALL
    examples = 3  # each write tells Redis twice


class TestSomebodyElses(StoreContract):
    """A store with ChatKit's twelve methods and nothing besides, which knows no readers."""

    capabilities = frozenset({"prefixes", "big_integers", "arrival_order"})

    @pytest.fixture
    def store(self) -> SmallStore:
        return SmallStore()

    def context_of(self, user: str, tenant: str = "") -> dict[str, str]:
        return {"user": user, "tenant": tenant}


def test_every_kind_of_store_is_held_to_it():
    assert sorted(kind.kind for kind in OurContract.__subclasses__()) == sorted(STORES)


class TestCapabilities:
    def test_one_that_there_is_not_is_refused(self):
        with pytest.raises(TypeError, match="ownership"):
            type("Mistaken", (StoreContract,), {"capabilities": frozenset({"ownership"})})

    def test_what_is_not_claimed_is_skipped_and_nothing_else_is(self, pytester: pytest.Pytester):
        pytester.makepyfile(
            """
            import pytest
            from chatkit_rag.testing import StoreContract
            from testing.stock_server import SmallStore

            class TestSmallStore(StoreContract):
                examples = 2

                @pytest.fixture
                def store(self):
                    return SmallStore()
            """
        )

        result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", "-k", "thread or history or stranger")

        outcomes = result.parseoutcomes()
        assert set(outcomes) == {"passed", "skipped", "deselected"}
        result.stdout.fnmatch_lines(["*SKIPPED*the store does not claim owners"])


@pytest.mark.anyio
class TestOurStores:
    """What ours do beyond the contract."""

    async def test_not_found_is_chatkit_s_error_and_ours_and_names_what(self, store: Any, ada: RequestContext):
        with pytest.raises(NotFound) as not_there:
            await store.load_thread("thr_1", ada)

        assert isinstance(not_there.value, errors.NotFound)
        assert not_there.value.details == {"thread": "thr_1"}

    async def test_what_cannot_be_stored_is_named(self, store: Any, ada: RequestContext):
        with pytest.raises(errors.InvalidRequest, match="`title` holds a NUL character") as refused:
            await store.save_thread(thread(title="a\0"), ada)

        assert refused.value.details == {"field": "title"}

    async def test_ids_tell_their_kind_stay_apart_and_sort_by_time(self, store: Any, ada: RequestContext):
        kinds = {"message": "msg", "tool_call": "tc", "workflow": "wf", "task": "tsk", "sdk_hidden_context": "shcx"}

        assert store.generate_thread_id(ada).startswith("thr_")
        for kind, prefix in kinds.items():
            assert store.generate_item_id(kind, thread(), ada).startswith(f"{prefix}_")
        made = []
        for _ in range(3):
            made.append(store.generate_item_id("message", thread(), ada))
            await asyncio.sleep(0.002)
        assert made == sorted(set(made))


@pytest.mark.anyio
class TestTheContractNotices:
    @pytest.mark.parametrize("wrong", BROKEN)
    async def test_a_store_that_does_not_keep_it(self, wrong: str):
        test, make, given = BROKEN[wrong]
        store = make()
        contract = TestMemory()
        fixtures = {"read_feedback": reading(store)} if "feedback" in test or "last_word" in test else {}

        with pytest.raises((AssertionError, pytest.fail.Exception, NotFoundError)) as noticed:
            await getattr(contract, test)(store, **fixtures, **given)

        assert "TypeError" not in str(noticed.value), "the fault is one of this test's own"

    def test_every_promise_has_a_store_that_breaks_it(self):
        promises = {name for name in dir(StoreContract) if name.startswith("test_")}

        assert {test for test, *_ in BROKEN.values()} == promises


def reading(store: Any) -> ReadFeedback:
    async def read(context: Any, thread_id: str, item_id: str) -> str | None:
        return await kept_feedback(store, context, thread_id, item_id)

    return read
