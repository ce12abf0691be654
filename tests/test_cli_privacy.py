"""`purge`, `users export` and `users delete`, over a data directory with readers in it."""

import asyncio
import io
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from chatkit_rag.cli import app, main
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.privacy import KINDS
from chatkit_rag.stores.sql import SQLiteStore
from chatkit_rag.testing.store.part import message, thread
from processes import run

SECRET = "a secret of more than thirty-two bytes"
ADA = Principal("ada", tenant="school")


async def pieces() -> AsyncIterator[bytes]:
    yield b"%PDF-1.7\n" + b"\n" * 64


async def stored(folder: Path) -> None:
    """A reader of a tenant with an old thread and a new one with a file; and one without a tenant."""
    store = SQLiteStore(folder / "threads.db")
    files = LocalAttachmentStore(folder / "attachments", secret=SECRET, base_url="http://chat.test")
    ada, other = RequestContext(principal=ADA), RequestContext(principal=Principal("ada"))
    for context in (ada, other):
        await store.save_thread(thread("thr_old", created_at=utc_now() - timedelta(days=40)), context)
        await store.save_thread(thread("thr_new", created_at=utc_now()), context)
        await store.add_thread_item("thr_new", message("msg_1", "Zürich 👩‍🚀", thread_id="thr_new"), context)
        waiting = files.describe("notes.pdf", "application/pdf", context)
        complete = files.complete(waiting, await files.write(waiting, pieces(), context), context)
        await store.save_attachment(complete.model_copy(update={"thread_id": "thr_new"}), context)
    await store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATKIT_RAG_SESSION_SECRET", SECRET)
    place = tmp_path / "data"
    asyncio.run(stored(place))
    return place


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    app(list(command), standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def readers_of(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "threads.db") as connection:
        rows = connection.execute("SELECT tenant, user, id FROM threads ORDER BY 1, 2, 3").fetchall()
    connection.close()
    return rows


def files_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "attachments").rglob("*") if path.is_file()]


def test_an_export_is_one_document_with_everything(folder: Path, capsys: pytest.CaptureFixture[str]):
    document = printed(capsys, "users", "export", "ada", "--tenant", "school", "--data-dir", str(folder))

    assert list(document) == ["tenant", "user", *KINDS]
    assert (document["tenant"], document["user"]) == ("school", "ada")
    assert [row["id"] for row in document["threads"]] == ["thr_old", "thr_new"]
    assert document["items"][0]["content"][0]["text"] == "Zürich 👩‍🚀"
    assert [row["name"] for row in document["attachments"]] == ["notes.pdf"]


def test_an_export_of_nobody_is_a_document_too(folder: Path, capsys: pytest.CaptureFixture[str]):
    document = printed(capsys, "users", "export", "nobody", "--json", "--data-dir", str(folder))

    assert document == {"tenant": "", "user": "nobody", **{kind: [] for kind in KINDS}}


def test_a_deleted_reader_is_gone_and_one_of_the_same_name_elsewhere_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    command = ["users", "delete", "ada", "--tenant", "school", "--yes", "--json", "--data-dir", str(folder)]

    first, again = printed(capsys, *command), printed(capsys, *command)

    assert first == {"tenant": "school", "user": "ada", "threads": 2, "attachments": 1}
    assert (again["threads"], again["attachments"]) == (0, 0)
    assert readers_of(folder) == [("", "ada", "thr_new"), ("", "ada", "thr_old")]
    assert len(files_in(folder)) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("n\n", 4), ("\n", 4), ("y\n", 2)])
def test_on_a_terminal_it_is_asked_first(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    command = ["users", "delete", "ada", "--tenant", "school", "--data-dir", str(folder)]

    try:
        app(command, standalone_mode=False)
    except typer.Abort:
        assert left == 4

    assert len(readers_of(folder)) == left


def test_without_a_terminal_and_without_a_word_nothing_is_deleted(folder: Path):
    done = run("users", "delete", "ada", "--tenant", "school", "--data-dir", str(folder), cwd=folder.parent)

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert done.stdout == ""
    assert len(readers_of(folder)) == 4


def test_a_purge_removes_what_retention_says(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    kept = printed(capsys, "purge", "--json", "--data-dir", str(folder))
    monkeypatch.setenv("CHATKIT_RAG_RETENTION_DAYS", "30")

    purged = printed(capsys, "purge", "--json", "--data-dir", str(folder))

    assert kept == {"threads": 0, "attachments": 0, "expired": 0}
    assert purged == {"threads": 2, "attachments": 0, "expired": 0}
    assert readers_of(folder) == [("", "ada", "thr_new"), ("school", "ada", "thr_new")]
    assert len(files_in(folder)) == 2


def test_a_purge_says_what_it_did_and_how_long_threads_are_kept(folder: Path, capsys: pytest.CaptureFixture[str]):
    app(["purge", "--data-dir", str(folder)], standalone_mode=False)

    said = capsys.readouterr().out
    assert "0 removed; they are kept for ever" in said


@pytest.mark.parametrize("command", [["purge"], ["users", "export", "ada"], ["users", "delete", "ada", "--yes"]])
def test_a_database_that_is_away_is_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cr3t@127.0.0.1:1/d")
    monkeypatch.setattr(sys, "argv", ["chatkit-rag", *command])

    with pytest.raises(SystemExit) as left:
        main()

    said = capsys.readouterr()
    assert left.value.code == 1
    assert len(said.err.splitlines()) == 1
    assert "s3cr3t" not in said.err


@pytest.mark.parametrize("user", ["", "a\0"])
def test_an_id_that_no_reader_can_have_is_refused(
    user: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["chatkit-rag", "users", "export", user, "--data-dir", str(folder)])

    with pytest.raises(SystemExit) as left:
        main()

    assert left.value.code == 1
    assert "no reader can have this id" in capsys.readouterr().err
