"""Retention, export and deletion over a store and its files, and what a crash leaves for the next time."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck
from chatkit.store import AttachmentStore, NotFoundError

from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import StoreUnavailable, Unsupported
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.ids import new_id, time_of
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.privacy import KINDS, delete_user, export_user, purge
from chatkit_rag.testing.store.part import file, fill, message, thread, threads_of
from chatkit_rag.testing.store.privacy import held
from testing.stock_server import SmallStore

pytestmark = pytest.mark.anyio

ADA = Principal("ada")
CONTEXT = RequestContext(principal=ADA)
NOW = datetime(2025, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def files(folder: Path) -> LocalAttachmentStore:
    return LocalAttachmentStore(folder, secret="a secret of more than thirty-two bytes", base_url="http://chat.test")


async def pieces() -> AsyncIterator[bytes]:
    yield b"%PDF-1.7\n" + b"\n" * 64


async def uploaded(
    store: Any, files: LocalAttachmentStore, reader: Principal = ADA, *, thread_id: str | None = None
) -> ck.Attachment:
    """A whole file of a reader's, in a thread or in none."""
    context = RequestContext(principal=reader)
    waiting = files.describe("notes.pdf", "application/pdf", context)
    complete = files.complete(waiting, await files.write(waiting, pieces(), context), context)
    complete = complete.model_copy(update={"thread_id": thread_id})
    await store.save_attachment(complete, context)
    return complete


def on_disk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class Failing:
    """An attachment store, or a store, whose method fails once."""

    def __init__(self, whole: Any, method: str) -> None:
        self.has_failed = False
        # On the instance: from Python 3.12 on, `isinstance` looks for a protocol's methods without `__getattr__`.
        for name in dir(whole):
            if not name.startswith("_"):
                setattr(self, name, getattr(whole, name))

        async def fails(*arguments: Any) -> Any:
            if self.has_failed:
                return await getattr(whole, method)(*arguments)
            self.has_failed = True
            raise StoreUnavailable("away")

        setattr(self, method, fails)


class TestPurging:
    async def test_a_thread_goes_with_its_files_and_a_younger_one_keeps_both(
        self, store: Any, files: LocalAttachmentStore, folder: Path
    ):
        await store.save_thread(thread("thr_old", created_at=NOW - 2 * YEAR), CONTEXT)
        await store.save_thread(thread("thr_new", created_at=NOW - YEAR / 2), CONTEXT)
        old, new = [await uploaded(store, files, thread_id=id_) for id_ in ("thr_old", "thr_new")]

        purged = await purge(store, files, now=NOW, retention=YEAR)

        assert (purged.threads, purged.attachments) == (1, 1)
        assert await threads_of(store, CONTEXT) == ["thr_new"]
        assert [path.name for path in on_disk(folder)] == [new.id]
        with pytest.raises(NotFoundError):
            await store.load_attachment(old.id, CONTEXT)

    async def test_without_retention_every_thread_stays(self, store: Any):
        await store.save_thread(thread("thr_old", created_at=NOW - 50 * YEAR), CONTEXT)

        purged = await purge(store, None, now=NOW, retention=None)

        assert purged.threads == 0
        assert await threads_of(store, CONTEXT) == ["thr_old"]

    async def test_hundreds_of_old_threads_go_in_one_purge(self):
        store = MemoryStore()
        for number in range(230):
            await store.save_thread(thread(f"thr_{number}", created_at=NOW - 2 * YEAR), CONTEXT)

        assert (await purge(store, None, now=NOW, retention=YEAR)).threads == 230

    async def test_a_file_that_is_in_no_message_goes_after_a_day(
        self, store: Any, files: LocalAttachmentStore, folder: Path
    ):
        attachment = await uploaded(store, files)
        made = time_of(attachment.id)
        assert made is not None

        early = await purge(store, files, now=made + timedelta(days=1), retention=None)
        assert [path.name for path in on_disk(folder)] == [attachment.id]
        late = await purge(store, files, now=made + timedelta(days=1, milliseconds=1), retention=None)

        assert (early.attachments, late.attachments) == (0, 1)
        assert on_disk(folder) == []

    async def test_a_file_whose_id_tells_no_time_is_left_alone(self, store: Any):
        await store.save_attachment(file("atc_1a2b3c4d"), CONTEXT)

        purged = await purge(store, None, now=utc_now() + 50 * YEAR, retention=None)

        assert purged.attachments == 0
        assert (await store.load_attachment("atc_1a2b3c4d", CONTEXT)).name == "a.pdf"

    @pytest.mark.parametrize("step", ["delete_attachment", "delete_attachment of the store"])
    async def test_what_fails_in_between_is_done_by_the_next_purge(
        self, files: LocalAttachmentStore, folder: Path, step: str
    ):
        store = MemoryStore()
        await store.save_thread(thread("thr_old", created_at=NOW - 2 * YEAR), CONTEXT)
        await uploaded(store, files, thread_id="thr_old")
        of_store = step.endswith("store")
        failing: Any = Failing(store if of_store else files, "delete_attachment")

        if of_store:
            with pytest.raises(StoreUnavailable):
                await purge(failing, files, now=NOW, retention=YEAR)
        else:
            assert (await purge(store, failing, now=NOW, retention=YEAR)).attachments == 0
        assert failing.has_failed
        again = await purge(store, files, now=NOW, retention=YEAR)

        assert again.attachments == 1
        assert on_disk(folder) == []
        assert (await held(store, CONTEXT))["attachments"] == []

    async def test_a_store_that_cannot_tell_says_so(self):
        small: Any = SmallStore()

        with pytest.raises(Unsupported):
            await purge(small, None, now=NOW, retention=YEAR)


class TestDeleting:
    async def test_a_reader_goes_with_every_byte_and_another_keeps_theirs(
        self, store: Any, files: LocalAttachmentStore, folder: Path
    ):
        eve = Principal("eve")
        await fill(store, CONTEXT, items=3)
        await uploaded(store, files, thread_id="thr_1")
        await uploaded(store, files)
        kept = await uploaded(store, files, eve)

        deleted = await delete_user(store, files, ADA)

        assert (deleted.threads, deleted.attachments) == (1, 2)
        assert await held(store, CONTEXT) == {kind: [] for kind in KINDS}
        assert [path.name for path in on_disk(folder)] == [kept.id]

    async def test_bytes_without_a_record_go_too(self, store: Any, files: LocalAttachmentStore, folder: Path):
        lost = files.describe("lost.pdf", "application/pdf", CONTEXT)
        await files.write(lost, pieces(), CONTEXT)

        await delete_user(store, files, ADA)

        assert on_disk(folder) == []

    @pytest.mark.parametrize("step", ["delete_owner", "delete_user"])
    async def test_what_fails_in_between_can_be_done_again(self, files: LocalAttachmentStore, folder: Path, step: str):
        store = MemoryStore()
        await fill(store, CONTEXT, items=1)
        await uploaded(store, files, thread_id="thr_1")
        failing: Any = Failing(files if step == "delete_owner" else store, step)
        first = (store, failing) if step == "delete_owner" else (failing, files)

        with pytest.raises(StoreUnavailable):
            await delete_user(*first, ADA)
        assert (await held(store, CONTEXT))["attachments"] != []
        await delete_user(store, files, ADA)

        assert await held(store, CONTEXT) == {kind: [] for kind in KINDS}
        assert on_disk(folder) == []

    async def test_files_that_others_keep_are_deleted_one_by_one(self):
        store, deleted = MemoryStore(), list[str]()

        class Theirs(AttachmentStore[RequestContext]):
            async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
                deleted.append(attachment_id)

        for id_ in ("atc_1", "atc_2"):
            await store.save_attachment(file(id_), CONTEXT)

        await delete_user(store, Theirs(), ADA)

        assert deleted == ["atc_1", "atc_2"]

    async def test_a_store_that_cannot_says_so(self):
        small: Any = SmallStore()

        with pytest.raises(Unsupported):
            await delete_user(small, None, ADA)
        with pytest.raises(Unsupported):
            _ = [holding async for holding in export_user(small, ADA)]


class TestTheFile:
    """What is particular to SQLite."""

    async def test_a_file_of_the_version_before_is_taken_over(self, make_store: Any, tmp_path: Path):
        store = make_store("sqlite")
        await fill(store, CONTEXT, items=1)
        await store._file.write(lambda connection: connection.execute("DROP TABLE deleted_users"))
        await store.close()

        deleted = await store.delete_user(CONTEXT)

        assert deleted.threads == 1
        with pytest.raises(NotFoundError):
            await store.save_thread(thread(), CONTEXT)

    async def test_of_what_is_deleted_no_word_is_left_in_the_file(self, make_store: Any, tmp_path: Path):
        store = make_store("sqlite")
        await store.save_thread(thread(), CONTEXT)
        for number in range(30):
            await store.add_thread_item("thr_1", message(f"msg_{number}", "Ada's canary sings. " * 50), CONTEXT)
        await store.delete_user(RequestContext(principal=ADA))
        await store.close()

        assert [path for path in tmp_path.iterdir() if b"canary" in path.read_bytes()] == []

    async def test_what_cannot_be_read_is_told_as_it_is_and_never_purged(self, make_store: Any):
        store = make_store("sqlite")
        await fill(store, CONTEXT, items=1)
        for table in ("threads", "items"):
            await store._file.change(f"UPDATE {table} SET payload = '{{damaged'")

        found = await held(store, CONTEXT)
        gone = await store.purge_threads(NOW + 50 * YEAR, 10)

        assert [found[kind] for kind in ("threads", "items")] == [[{"unreadable": "{damaged"}]] * 2
        assert gone == []


async def test_an_export_is_json_whatever_was_stored(store: Any):
    odd = thread(title="\u2028 'a' \"b\"", metadata={"n": 2**70, "deep": {"list": [1.5, None]}})
    await store.save_thread(odd, CONTEXT)

    rows = [json.loads(json.dumps(row.record)) async for row in export_user(store, ADA)]

    assert [row["metadata"] for row in rows] == [odd.metadata]


class TestTimesOfIds:
    def test_an_id_tells_when_it_was_made(self):
        before = utc_now()

        made = time_of(new_id("atc"))

        assert made is not None
        assert before - timedelta(milliseconds=1) <= made <= utc_now()

    @pytest.mark.parametrize("id_", ["", "atc_", "atc_1a2b3c4d", "atc_" + "z" * 34, "atc_" + "i" * 34, "z" * 34])
    def test_an_id_of_somebody_else_s_tells_nothing(self, id_: str):
        assert time_of(id_) is None
