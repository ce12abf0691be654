"""Taking over the threads of an earlier assistant: whole, in order, repeatable, and never over what was done here."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    FileAttachment,
    LockedStatus,
    ThreadItem,
    ThreadMetadata,
)
from first_systems import KEYED_BY_OWNER, S1Database, S2Database

from chatkit_rag.cli import app, main
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores import postgres_first_systems
from chatkit_rag.stores.base import BaseStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.testing.store.part import T0
from chatkit_rag.testing.store.records import ITEMS
from postgres_server import PostgresServer
from processes import COMMAND, clean_environment


def thread(id_: str, minutes: int = 0, **fields: Any) -> ThreadMetadata:
    return ThreadMetadata(id=id_, created_at=T0 + timedelta(minutes=minutes), **fields)


def answer(id_: str, thread_id: str = "thr_1", text: str = "An answer.", minutes: float = 0) -> AssistantMessageItem:
    content = [AssistantMessageContent(text=text)]
    created_at = T0 + timedelta(minutes=minutes)
    return AssistantMessageItem(id=id_, thread_id=thread_id, created_at=created_at, content=content)


def ids(records: Any) -> list[str]:
    return [record.id for record in records]


@dataclass
class Here:
    """Our database, and the command that imports into it."""

    database_url: str
    store: Callable[[], BaseStore]
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    told: str = field(default="", init=False)

    def take_over(self, url: str, *options: str) -> dict[str, Any]:
        """The report of a run."""
        self.monkeypatch.setenv("DATABASE_URL", self.database_url)
        self.capsys.readouterr()
        app(["migrate", "--import-from", url, *options], standalone_mode=False)
        out, self.told = self.capsys.readouterr()
        return json.loads(out)

    def do(self, work: Callable[[BaseStore, RequestContext], Any], user: str = "ada", tenant: str = "") -> Any:
        """What `work` returns, of the store that a server would have."""

        async def run() -> Any:
            async with aclosing(_Closing(self.store())) as closing:
                return await work(closing.store, RequestContext(principal=Principal(user, tenant=tenant)))

        return asyncio.run(run())

    def threads(self, user: str = "ada", tenant: str = "") -> list[ThreadMetadata]:
        """All of a reader's threads, oldest first."""
        return self._all(lambda store, after, context: store.load_threads(100, after, "asc", context), user, tenant)

    def items(self, thread_id: str = "thr_1", user: str = "ada", tenant: str = "") -> list[ThreadItem]:
        """All items of a thread, in order."""
        return self._all(
            lambda store, after, context: store.load_thread_items(thread_id, after, 100, "asc", context), user, tenant
        )

    def attachment(self, id_: str, user: str = "ada") -> Attachment:
        """An attachment's record."""
        return self.do(lambda store, context: store.load_attachment(id_, context), user)

    def _all(self, page: Callable[..., Any], user: str, tenant: str) -> list[Any]:
        async def pages(store: BaseStore, context: RequestContext) -> list[Any]:
            found, after = [], None
            while True:
                part = await page(store, after, context)
                found += part.data
                if not part.has_more:
                    return found
                after = part.after

        return self.do(pages, user, tenant)


@dataclass
class _Closing:
    store: Any

    async def aclose(self) -> None:
        await self.store.close()


@pytest.fixture(params=["postgres", "sqlite"])
def here(
    request: pytest.FixtureRequest,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    """A Postgres database, or a file."""
    if request.param == "postgres":
        return Here(postgres_url, lambda: PostgresStore(postgres_url, pool_size=1), monkeypatch, capsys)
    file = tmp_path / "threads.db"
    return Here(f"sqlite:///{file}", lambda: SQLiteStore(file), monkeypatch, capsys)


@pytest.fixture
def in_postgres(postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """A Postgres database, which the old system's tables are in as well."""
    return Here(postgres_url, lambda: PostgresStore(postgres_url, pool_size=1), monkeypatch, capsys)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three rows: everything spans several."""
    monkeypatch.setattr(postgres_first_systems, "_ROWS", 3)


@pytest.fixture
def s2(postgres_url: str) -> S2Database:
    """The second system's tables, in the database that ours are in."""
    return S2Database(postgres_url)


@pytest.fixture
def s1(postgres_url: str) -> S1Database:
    """The first system's tables, likewise."""
    return S1Database(postgres_url)


@pytest.mark.usefixtures("small_pages")
def test_threads_and_items_of_every_type_come_as_they_were(here: Here, s2: S2Database):
    threads = [
        thread("thr_1", title="Nodes", metadata={"site": "ros", "big": 2**70}, allowed_image_domains=["x.test"]),
        thread("thr_2", 1, status=LockedStatus(reason="exam")),
        *(thread(f"thr_{number}", number) for number in range(3, 9)),
    ]
    for one in threads:
        s2.add_thread("ada", one)
    s2.add_items("ada", ITEMS)
    s2.add_thread("bob", thread("thr_b"))
    s2.add_items("bob", [answer("b1", "thr_b")])
    s2.add_attachment("ada", FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", thread_id="thr_1"))

    report = here.take_over(s2.url)

    assert report == {"threads": 9, "items": len(ITEMS) + 1, "attachments": 1, "skipped": []}
    assert here.threads() == threads
    assert here.items() == ITEMS
    assert here.items("thr_2") == []
    assert here.threads("bob") == [thread("thr_b")]
    assert here.items("thr_b", "bob") == [answer("b1", "thr_b")]
    assert here.attachment("atc_1").name == "a.pdf"


@pytest.mark.usefixtures("small_pages")
def test_the_order_is_that_of_their_times_and_ids_break_ties(here: Here, s2: S2Database):
    s2.add_thread("ada", thread("thr_late", 5))
    s2.add_thread("ada", thread("thr_1", 1))
    tied = [answer(f"i{number:02}") for number in range(20)]
    s2.add_items("ada", [answer("last", minutes=2), *reversed(tied), answer("first", minutes=-1)])

    here.take_over(s2.url)

    assert ids(here.threads()) == ["thr_1", "thr_late"]
    assert ids(here.items()) == ["first", *ids(tied), "last"]


def test_each_kind_of_item_of_the_first_system_becomes_what_chatkit_has_for_it(here: Here, s1: S1Database):
    s1.add_thread("anonymous", "t1", metadata={"title": "Robots", "lang": "de"})
    s1.add_item("t1", "m1", role="user", content="What is a node?", created_at="2025-03-01 10:00:01.5")
    sources = [
        {"type": "textbook", "module": "Module 1", "week": "Week 2", "file": "nodes.md", "relevance_score": 0.9},
        {"type": "library_docs", "library": "ROS 2", "urls": ["https://docs.test/nodes"]},
        {"type": "selected_text", "text_preview": "…"},
    ]
    s1.add_item("t1", "m2", role="assistant", content="A process.", metadata={"sources": sources})
    s1.add_item("t1", "m3", role="system", content="Be kind.")
    s1.add_item("t1", "c1", "tool_call", tool_name="search", tool_arguments={"query": "node"}, tool_call_id="call_1")
    s1.add_item("t1", "c2", "tool_result", tool_result="found", tool_result_call_id="call_1")
    s1.add_item("t1", "k1", "task", task_name="Read", task_status="running", task_result={"pages": 3})
    steps = [{"name": "Read", "status": "completed", "result": "done"}]
    s1.add_item("t1", "w1", "workflow", workflow_name="Study", workflow_steps=steps)
    file = {"attachment_url": "https://files.test/x/plan.pdf?sig=1", "attachment_mime_type": "application/pdf"}
    s1.add_item("t1", "a1", "attachment", **file, attachment_size_bytes=12)

    report = here.take_over(s1.url)

    assert report == {"threads": 1, "items": 8, "attachments": 1, "skipped": []}
    [taken] = here.threads("anonymous")
    assert (taken.title, taken.metadata) == ("Robots", {"title": "Robots", "lang": "de"})
    assert taken.created_at == datetime(2025, 3, 1, 10, tzinfo=UTC)
    question, reply, hint, call, result, task, workflow, attached = [
        item.model_dump(mode="json", exclude_none=True) for item in here.items("t1", "anonymous")
    ]
    assert [question["id"], attached["id"]] == ["m1", "a1"]
    assert question["content"] == [{"type": "input_text", "text": "What is a node?"}]
    assert question["created_at"] == "2025-03-01T10:00:01.500000Z"
    [part] = reply["content"]
    assert part["text"] == "A process."
    assert [one["source"] for one in part["annotations"]] == [
        {"type": "file", "title": "Module 1, Week 2", "filename": "nodes.md"},
        {"type": "url", "title": "ROS 2", "url": "https://docs.test/nodes"},
    ]
    assert (hint["type"], hint["content"]) == ("hidden_context_item", "Be kind.")
    assert (call["name"], call["arguments"], call["call_id"]) == ("search", {"query": "node"}, "call_1")
    assert (result["type"], result["content"]["tool_result"]) == ("hidden_context_item", "found")
    assert (task["task"]["title"], task["task"]["content"]) == ("Read", '{"pages":3}')
    assert (task["task"]["status_indicator"], workflow["workflow"]["tasks"][0]["content"]) == ("loading", "done")
    assert workflow["workflow"]["summary"] == {"title": "Study"}
    [described] = attached["attachments"]
    assert (described["name"], described["metadata"]["size"]) == ("plan.pdf", 12)
    assert here.attachment("a1", "anonymous").model_dump(mode="json", exclude_none=True) == described


def test_a_second_run_adds_what_is_new_and_changes_what_has_changed_there_alone(here: Here, s2: S2Database):
    for one in ("thr_1", "thr_2"):
        s2.add_thread("ada", thread(one, title="Before"))
        s2.add_items("ada", [answer(f"{one}_a", one), answer(f"{one}_b", one, minutes=1)])
    here.take_over(s2.url)
    assert here.take_over(s2.url) == {"threads": 0, "items": 0, "attachments": 0, "skipped": []}

    s2.save("threads", "thr_1", json.dumps({"thread": thread("thr_1", title="After").model_dump(mode="json")}))
    longer = answer("thr_1_a", text="A longer answer.")
    s2.save("items", "thr_1_a", json.dumps({"item": longer.model_dump(mode="json")}))
    s2.add_items("ada", [answer("thr_1_c", minutes=2)])
    s2.add_thread("ada", thread("thr_3", 3))
    report = here.take_over(s2.url)

    assert report == {"threads": 2, "items": 2, "attachments": 0, "skipped": []}
    assert [(one.id, one.title) for one in here.threads()] == [("thr_1", "After"), ("thr_2", "Before"), ("thr_3", None)]
    assert here.items() == [longer, answer("thr_1_b", minutes=1), answer("thr_1_c", minutes=2)]
    assert ids(here.items("thr_2")) == ["thr_2_a", "thr_2_b"]


def test_what_readers_have_written_changed_or_deleted_here_stays_so(here: Here, s2: S2Database):
    for one in ("thr_1", "thr_2", "thr_3"):
        s2.add_thread("ada", thread(one, title="Theirs"))
        s2.add_items("ada", [answer(f"{one}_a", one), answer(f"{one}_b", one, minutes=1)])
    here.take_over(s2.url)

    async def go_on(store: BaseStore, context: RequestContext) -> None:
        await store.save_thread(thread("thr_1", title="Mine"), context)
        await store.save_item("thr_1", answer("thr_1_a", text="Mine."), context)
        await store.add_thread_item("thr_1", answer("mine"), context)
        await store.delete_thread_item("thr_2", "thr_2_a", context)
        await store.delete_thread("thr_3", context)

    here.do(go_on)
    changed = thread("thr_1", title="Theirs again").model_dump(mode="json")
    s2.save("threads", "thr_1", json.dumps({"thread": changed}))
    for id_ in ("thr_1_a", "thr_2_a", "thr_3_a"):
        s2.save("items", id_, json.dumps({"item": answer(id_, id_[:5], "Theirs again.").model_dump(mode="json")}))
    s2.add_items("ada", [answer("thr_3_c", "thr_3", minutes=2), answer("thr_1_c", minutes=2)])
    report = here.take_over(s2.url)

    assert report == {"threads": 0, "items": 1, "attachments": 0, "skipped": []}
    assert [(one.id, one.title) for one in here.threads()] == [("thr_1", "Mine"), ("thr_2", "Theirs")]
    assert here.items()[0] == answer("thr_1_a", text="Mine.")
    assert ids(here.items()) == ["thr_1_a", "thr_1_b", "mine", "thr_1_c"]
    assert ids(here.items("thr_2")) == ["thr_2_b"]
    assert here.take_over(s2.url)["items"] == 0


def test_a_thread_of_the_same_id_that_is_ours_stays_as_it_is(here: Here, s2: S2Database):
    here.do(lambda store, context: store.save_thread(thread("thr_1", title="Ours"), context))
    s2.add_thread("ada", thread("thr_1", title="Theirs"))

    assert here.take_over(s2.url)["threads"] == 0
    assert [one.title for one in here.threads()] == ["Ours"]


def contents(url: str, postgres: PostgresServer) -> list[Any]:
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    return [
        (schema, table, postgres.run(f"SELECT * FROM {schema}.{table} ORDER BY 1, 2", url=url))
        for schema, table in sorted(postgres.run(tables, url=url))
        if table != "alembic_version"
    ]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    here: Here, s2: S2Database, postgres: PostgresServer, tmp_path: Path
):
    s2.add_thread("ada", thread("thr_1"))
    s2.add_items("ada", [answer("a"), answer("b", "thr_gone")])
    before = contents(s2.url, postgres)

    report = here.take_over(s2.url, "--dry-run")

    assert report["threads"] == report["items"] == 1
    assert ids_of_skipped(report) == ["b"]
    assert "Would take over 1 threads, 1 items" in here.told
    assert contents(s2.url, postgres) == before
    assert not (tmp_path / "threads.db").exists()

    here.take_over(s2.url)
    s2.add_items("ada", [answer("c")])
    before, file = contents(s2.url, postgres), tmp_path / "threads.db"
    content = file.read_bytes() if file.exists() else b""
    assert here.take_over(s2.url, "--dry-run") == {
        "threads": 0,
        "items": 1,
        "attachments": 0,
        "skipped": report["skipped"],
    }
    assert contents(s2.url, postgres) == before
    assert (file.read_bytes() if file.exists() else b"") == content


def ids_of_skipped(report: dict[str, Any]) -> list[str]:
    return [row["id"] for row in report["skipped"]]


@pytest.mark.usefixtures("small_pages")
def test_a_row_that_cannot_be_read_is_named_and_takes_no_other_along(in_postgres: Here):
    s2 = S2Database(in_postgres.database_url, payload="text")
    s2.add_thread("ada", thread("thr_1"))
    s2.add_thread("ada", thread("thr_bad", 1))
    s2.save("threads", "thr_bad", '{"thread": {"title": 7}}')
    long = "Zürich 👩‍🚀 " * 70_000
    s2.add_items("ada", [answer("good"), answer("long", text=long), *(answer(f"bad_{n}") for n in range(7))])
    good = json.dumps({"item": answer("bad").model_dump(mode="json")})
    for number, data in enumerate(
        [
            "a reader's secret",
            good.replace('"An answer."', "NaN"),
            good.replace("An answer.", "\\ud800"),
            good.replace("An answer.", "a\\u0000b"),
            good.replace("assistant_message", "hologram"),
            "[]",
            '{"item": {"type": "hidden_context_item", "content": ' + "[" * 150 + "]" * 150 + "}}",
        ]
    ):
        s2.save("items", f"bad_{number}", data)
    s2.add_items("ada", [answer("of_bad", "thr_bad"), answer("of_none", "thr_none")])
    s2.add_items("bob", [answer("foreign")])

    report = in_postgres.take_over(s2.url)

    assert (report["threads"], report["items"]) == (1, 2)
    assert {item.id: item for item in in_postgres.items()} == {
        "good": answer("good"),
        "long": answer("long", text=long),
    }
    reasons = {row["id"]: row["reason"] for row in report["skipped"]}
    assert reasons == {
        "thr_bad": "it is no thread that ChatKit knows (string_type)",
        "bad_0": "it is not JSON",
        "bad_1": "it is not JSON",
        "bad_2": "it is not JSON",
        "bad_3": "`content` holds a NUL character, which cannot be stored",
        "bad_4": "it is no item that ChatKit knows (union_tag_invalid)",
        "bad_5": "its record is not a JSON object",
        "bad_6": "`content` holds lists and mappings nested too deeply, which cannot be stored",
        "of_bad": "its thread is left out",
        "of_none": "its thread is not there",
        "foreign": "its thread is another user's",
    }
    assert "skipped bad_0: it is not JSON" in in_postgres.told
    assert "secret" not in in_postgres.told
    assert in_postgres.take_over(s2.url) == report | {"threads": 0, "items": 0}


@pytest.mark.usefixtures("small_pages")
def test_ids_that_two_readers_share_stay_two_and_what_is_nobodys_is_named(here: Here, s2: S2Database):
    s2.run(KEYED_BY_OWNER)
    for user in ("ada", "bob", None):
        s2.add_thread(user, thread("thr_1", title=str(user)))
        s2.add_items(user, [answer("i1", text=str(user))])

    report = here.take_over(s2.url)

    assert (report["threads"], report["items"]) == (2, 2)
    assert report["skipped"] == [
        {"id": "thr_1", "reason": "it has no user"},
        {"id": "i1", "reason": "it has no user"},
    ]
    for user in ("ada", "bob"):
        assert here.threads(user) == [thread("thr_1", title=user)]
        assert here.items(user=user) == [answer("i1", text=user)]


def test_items_that_a_model_left_without_a_name_get_one_each_and_keep_it(here: Here, s2: S2Database):
    s2.run(KEYED_BY_OWNER)
    s2.add_thread("ada", thread("thr_1"))
    s2.add_items("ada", [answer("__fake_id__", minutes=number, text=f"{number}") for number in range(3)])

    assert here.take_over(s2.url)["items"] == 3
    first = here.items()
    assert here.take_over(s2.url)["items"] == 0

    assert [item.content[0].text for item in first] == ["0", "1", "2"]
    assert len({*ids(first), "__fake_id__"}) == 4
    assert here.items() == first


def test_a_time_without_an_offset_is_the_one_that_its_column_says(in_postgres: Here, s2: S2Database):
    s2.add_thread("ada", thread("thr_1"))
    s2.add_items("ada", [answer("naive"), answer("aware", minutes=1), answer("none", minutes=2)])
    for id_, said in (("naive", "2025-03-01T17:00:00"), ("aware", "2025-03-01T17:00:00+05:00")):
        s2.run(
            "UPDATE chatkit.items SET data = jsonb_set(data, '{item,created_at}', %s) WHERE id = %s", f'"{said}"', id_
        )
    s2.run("UPDATE chatkit.items SET data = data #- '{item,created_at}' WHERE id = 'none'")

    in_postgres.take_over(s2.url)

    assert [item.created_at for item in in_postgres.items()] == [T0, T0, T0 + timedelta(minutes=2)]


def test_columns_without_an_offset_are_in_the_time_zone_of_their_database(in_postgres: Here, s1: S1Database):
    s1.run("DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET timezone = ''Asia/Karachi'''; END $$")
    s1.add_thread("ada", "t1", created_at="2025-03-01 17:00")

    in_postgres.take_over(s1.url)

    assert [one.created_at for one in in_postgres.threads()] == [T0]


def test_json_within_json_and_records_that_are_not_wrapped_are_read_as_well(in_postgres: Here, s2: S2Database):
    s2.add_thread("ada", thread("thr_1"))
    s2.run("UPDATE chatkit.threads SET data = to_jsonb(data::text)")
    s2.add_items("ada", [answer("i1")])
    s2.run("UPDATE chatkit.items SET data = data -> 'item'")
    picture = {"type": "image", "preview_url": None, "upload_url": "https://files.test/up"}
    s2.add_attachment("ada", FileAttachment(id="atc_1", name="a.png", mime_type="image/png"), **picture)

    report = in_postgres.take_over(s2.url)

    assert report == {"threads": 1, "items": 1, "attachments": 1, "skipped": []}
    assert in_postgres.threads() == [thread("thr_1")]
    assert in_postgres.items() == [answer("i1")]
    assert in_postgres.attachment("atc_1").type == "file"


def test_tenants_come_from_the_column_that_is_named(here: Here, s2: S2Database):
    s2.add_thread("ada", thread("thr_1"), "uni")
    s2.add_thread("ada", thread("thr_2"))
    s2.add_items("ada", [answer("i1"), answer("i2", "thr_2")])

    report = here.take_over(s2.url, "--tenant-from", "organization_id")

    assert (report["threads"], report["items"]) == (2, 2)
    assert ids(here.threads(tenant="uni")) == ["thr_1"]
    assert ids(here.items(tenant="uni")) == ["i1"]
    assert ids(here.threads()) == ["thr_2"]


class TestTheLayout:
    def test_it_is_found_in_a_schema_of_any_name(self, in_postgres: Here):
        s2 = S2Database(in_postgres.database_url, schema="bot")
        s2.add_thread("ada", thread("thr_1"))

        assert in_postgres.take_over(s2.url)["threads"] == 1
        assert "s2 in the schema bot" in in_postgres.told

    def test_of_two_one_must_be_named(self, in_postgres: Here, s1: S1Database, s2: S2Database):
        s1.add_thread("ada", "of_s1")
        s2.add_thread("ada", thread("of_s2"))

        assert "--layout" in refusal(in_postgres, s1.url)
        assert in_postgres.take_over(s1.url, "--layout", "s1")["threads"] == 1
        assert in_postgres.take_over(s1.url, "--layout", "s2")["threads"] == 1
        assert ids(in_postgres.threads()) == ["of_s1", "of_s2"]

    def test_where_there_is_none_it_is_told_what_was_looked_for(self, in_postgres: Here):
        assert "chatkit_threads" in refusal(in_postgres, in_postgres.database_url)
        assert "threads and items" in refusal(in_postgres, in_postgres.database_url, "--layout", "s2")

    def test_a_column_that_is_not_there_is_told_with_those_that_are(self, in_postgres: Here, s2: S2Database):
        assert "organization_id" in refusal(in_postgres, s2.url, "--tenant-from", "lesson")

    def test_their_schema_is_not_taken_for_ours(self, in_postgres: Here, s2: S2Database):
        in_postgres.monkeypatch.setenv("CHATKIT_RAG_DATABASE_SCHEMA", "chatkit")

        assert "database_schema" in refusal(in_postgres, s2.url)

    def test_an_address_that_leads_nowhere_is_one_line_without_the_password(self, in_postgres: Here):
        said = refusal(in_postgres, "postgresql://me:s3cr3t@127.0.0.1:1/old")
        assert "127.0.0.1:1/old, cannot be reached" in said
        assert "--import-from begins with mysql://" in refusal(in_postgres, "mysql://me:s3cr3t@h/d")

    @pytest.mark.parametrize("options", [["--dry-run"], ["--layout", "s1"], ["--sql", "--import-from", "x"]])
    def test_options_that_do_not_go_together_are_a_mistake_of_use(
        self, options: list[str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sys, "argv", ["chatkit-rag", "migrate", *options])

        with pytest.raises(SystemExit) as left:
            main()

        assert left.value.code == 2


def refusal(here: Here, url: str, *options: str) -> str:
    """The one line that is told instead of a report."""
    here.monkeypatch.setenv("DATABASE_URL", here.database_url)
    here.monkeypatch.setattr(sys, "argv", ["chatkit-rag", "migrate", "--import-from", url, *options])
    here.capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    out, said = here.capsys.readouterr()
    assert (left.value.code, out, len(said.splitlines())) == (1, "", 1)
    assert "s3cr3t" not in said
    return said


@pytest.mark.usefixtures("small_pages")
def test_what_the_old_server_writes_meanwhile_is_complete_after_the_last_run(here: Here, s2: S2Database):
    s2.add_thread("ada", thread("thr_0"))
    written = [f"i{number:02}" for number in range(40)]

    def write() -> None:
        for number, id_ in enumerate(written):
            if not number % 4:
                s2.add_thread("ada", thread(f"thr_{number + 1}", number + 1))
            s2.add_items("ada", [answer(id_, "thr_0", minutes=number)])

    writer = threading.Thread(target=write)
    writer.start()
    reports: list[dict[str, Any]] = []
    while writer.is_alive():
        reports.append(here.take_over(s2.url))
    writer.join()
    reports.append(here.take_over(s2.url))

    assert sum(report["items"] for report in reports) == len(written)
    assert all(report["skipped"] == [] for report in reports)
    assert ids(here.items("thr_0")) == written
    assert ids(here.threads()) == [row[0] for row in s2.run("SELECT id FROM chatkit.threads ORDER BY created_at")]


@pytest.fixture
def old_database(postgres: PostgresServer) -> Iterator[S2Database]:
    """The second system's tables in a database of their own."""
    with postgres.database() as url:
        yield S2Database(url)


def test_an_import_that_was_killed_is_made_good_by_the_next(
    in_postgres: Here, old_database: S2Database, postgres: PostgresServer, tmp_path: Path
):
    threads = [f"thr_{number}" for number in range(8)]
    for number, id_ in enumerate(threads):
        old_database.add_thread("ada", thread(id_, number))
    in_postgres.take_over(old_database.url)
    rows = [answer(f"{id_}_{place:03}", id_, minutes=place) for id_ in threads for place in range(300)]
    old_database.add_items("ada", rows)
    url = in_postgres.database_url
    command = [*COMMAND, "migrate", "--import-from", old_database.url]
    environment = {**clean_environment(), "DATABASE_URL": url}
    waiting = b"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    with psycopg.connect(url) as holding, psycopg.connect(url, autocommit=True) as looking:
        holding.execute(
            b"SELECT * FROM chatkit_rag.threads WHERE id = 'thr_4' FOR UPDATE"
        )  # the second page waits for it
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("From s2")
        while not looking.execute(waiting).fetchall():
            assert process.poll() is None
        process.kill()
        process.communicate()
        [(kept,)] = looking.execute(b"SELECT count(*) FROM chatkit_rag.items").fetchall()
    report = in_postgres.take_over(old_database.url)

    assert process.returncode == -signal.SIGKILL
    assert 0 < kept < len(rows)
    assert report == {"threads": 0, "items": len(rows) - kept, "attachments": 0, "skipped": []}
    assert ids(in_postgres.threads()) == threads
    for id_ in threads:
        assert in_postgres.items(id_) == [row for row in rows if row.thread_id == id_]
