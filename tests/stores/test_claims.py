"""A file belongs to one thread: of all who want it at once one gets it, in whichever process they ask."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from chatkit.types import Attachment, FileAttachment

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.base import NO_THREAD, ClaimsAttachments, ListsAttachments
from chatkit_rag.stores.claims import InProcessClaims
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore

pytestmark = pytest.mark.anyio

KINDS = ["memory", "sqlite", "postgres"]
EVE = RequestContext(principal=Principal("eve"))


def file(id_: str, **fields: Any) -> Attachment:
    metadata = {"size": 7, "made": datetime(2026, 1, 1, tzinfo=UTC).isoformat(), "odd": [1.50, None, "'; --"]}
    return FileAttachment(id=id_, name="Größe \\ 'x'.txt", mime_type="text/plain", metadata=metadata, **fields)


class Claims:
    """A store, or several over one database, and what says whose files are in it."""

    def __init__(self, store: Any, claims: Sequence[ClaimsAttachments]) -> None:
        self.store = store
        self.claims = claims

    async def keep(self, context: RequestContext, *ids: str) -> None:
        for id_ in ids:
            await self.store.save_attachment(file(id_), context)

    async def threads(self, context: RequestContext, *ids: str) -> list[str | None]:
        return [(await self.store.load_attachment(id_, context)).thread_id for id_ in ids]

    async def claim(self, thread_id: str, *ids: str, context: RequestContext) -> bool:
        return await self.claims[0].claim_attachments(ids, thread_id, context)


@pytest.fixture(params=[*KINDS, "fall-back"])
def kept(request: pytest.FixtureRequest, make_store: Callable[[str], Any]) -> Claims:
    if request.param == "fall-back":
        store = make_store("slow")
        return Claims(store, [InProcessClaims(store)])
    store = make_store(request.param)
    return Claims(store, [store])


async def test_a_claimed_one_is_the_thread_s_and_otherwise_as_it_was(kept: Claims, ada: RequestContext):
    await kept.keep(ada, "atc_1")

    assert await kept.claim("thr_1", "atc_1", context=ada)

    assert await kept.store.load_attachment("atc_1", ada) == file("atc_1", thread_id="thr_1")


async def test_it_is_no_other_thread_s_then_and_may_be_claimed_again_for_its_own(kept: Claims, ada: RequestContext):
    await kept.keep(ada, "atc_1")
    await kept.claim("thr_1", "atc_1", context=ada)

    assert not await kept.claim("thr_2", "atc_1", context=ada)
    assert not await kept.claim(NO_THREAD, "atc_1", context=ada)
    assert await kept.claim("thr_1", "atc_1", "atc_1", context=ada)
    assert await kept.threads(ada, "atc_1") == ["thr_1"]


async def test_one_that_is_being_deleted_is_no_thread_s(kept: Claims, ada: RequestContext):
    await kept.keep(ada, "atc_1")

    assert await kept.claim(NO_THREAD, "atc_1", context=ada)
    assert not await kept.claim("thr_1", "atc_1", context=ada)
    assert await kept.claim(NO_THREAD, "atc_1", context=ada)


@pytest.mark.parametrize("missing", ["atc_none", "atc_taken", "atc_hers", "a'; --", "\ud800"])
async def test_all_are_claimed_or_none(kept: Claims, ada: RequestContext, missing: str):
    await kept.keep(ada, "atc_1", "atc_2", "atc_taken")
    await kept.keep(EVE, "atc_hers")
    await kept.claim("thr_2", "atc_taken", context=ada)

    assert not await kept.claim("thr_1", "atc_1", missing, "atc_2", context=ada)

    assert await kept.threads(ada, "atc_1", "atc_2", "atc_taken") == [None, None, "thr_2"]
    assert await kept.threads(EVE, "atc_hers") == [None]


async def test_a_released_one_can_be_claimed_by_another(kept: Claims, ada: RequestContext):
    await kept.keep(ada, "atc_1", "atc_2")
    await kept.claim("thr_1", "atc_1", context=ada)
    await kept.claim("thr_2", "atc_2", context=ada)

    await kept.claims[0].release_attachments(["atc_1", "atc_2", "atc_none"], "thr_1", ada)

    assert await kept.store.load_attachment("atc_1", ada) == file("atc_1")
    assert await kept.threads(ada, "atc_2") == ["thr_2"]
    assert await kept.claim("thr_3", "atc_1", context=ada)


async def test_another_reader_releases_nothing(kept: Claims, ada: RequestContext):
    await kept.keep(ada, "atc_1")
    await kept.claim("thr_1", "atc_1", context=ada)

    await kept.claims[0].release_attachments(["atc_1"], "thr_1", EVE)

    assert await kept.threads(ada, "atc_1") == ["thr_1"]


async def test_of_many_threads_at_once_one_gets_it(kept: Claims, ada: RequestContext):
    for round_ in range(5):
        id_ = f"atc_{round_}"
        await kept.keep(ada, id_)

        won = await asyncio.gather(*(kept.claim(f"thr_{n}", id_, context=ada) for n in range(10)))

        assert sum(won) == 1
        assert await kept.threads(ada, id_) == [f"thr_{won.index(True)}"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_so_it_is_with_several_connections_and_several_files(
    make_store: Callable[[str], Any], kind: str, ada: RequestContext
):
    """Files that overlap, in opposite orders: nobody waits for each other for ever, and nobody gets a part."""
    first = make_store(kind)
    await first.save_attachment(file("atc_x"), ada)
    if kind == "postgres":
        stores: list[Any] = [PostgresStore(first._database._connections._pool._engine) for _ in range(2)]
    else:
        stores = [SQLiteStore(first._file._path) for _ in range(2)]
    try:
        for round_ in range(10):
            ids = [f"atc_{round_}_{n}" for n in range(4)]
            for id_ in ids:
                await first.save_attachment(file(id_), ada)

            won = await asyncio.gather(
                stores[0].claim_attachments(ids[:3], "thr_0", ada),
                stores[1].claim_attachments(ids[:0:-1], "thr_1", ada),
            )

            assert sorted(won) == [False, True]
            threads = [(await first.load_attachment(id_, ada)).thread_id for id_ in ids]
            assert threads == (["thr_0"] * 3 + [None] if won[0] else [None] + ["thr_1"] * 3)
    finally:
        if kind == "sqlite":
            for store in stores:
                await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_all_of_a_reader_s_are_listed_and_no_others(
    make_store: Callable[[str], Any], kind: str, ada: RequestContext
):
    store = make_store(kind)
    for number in range(150):
        await store.save_attachment(file(f"atc_{number:03}"), ada)
    await store.save_attachment(file("atc_hers"), EVE)

    listed = await store.load_attachments(ada)

    assert sorted(attachment.id for attachment in listed) == [f"atc_{number:03}" for number in range(150)]
    assert listed[0] == file(listed[0].id)
    assert isinstance(store, ListsAttachments)
    assert isinstance(store, ClaimsAttachments)
