"""What is somebody else's is not there: no operation reads it, changes it, or tells that it exists."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.protocol import requests
from chatkit_rag.stores.base import BaseStore
from protocol.frames import call, message, question, refusal, request, stream
from threats.site import (
    ADDRESSES_NOTHING,
    ALICE,
    NOBODYS,
    Belongings,
    client_of,
    every_operation,
    everything_of,
    settle_in,
    without_ids,
)

pytestmark = pytest.mark.anyio

STRANGERS = ("another", "namesake", "anonymous")
Clients = dict[str, httpx.AsyncClient]


@pytest.fixture
async def things(alice: httpx.AsyncClient) -> Belongings:
    return await settle_in(alice)


def test_all_sixteen_operations_are_tried():
    asked = [body["type"] for body in every_operation(NOBODYS)]

    assert len(asked) == 16
    assert set(asked) == requests._OPERATIONS


async def test_the_owner_can_do_all_of_it(alice: httpx.AsyncClient, things: Belongings):
    # What takes something away comes last: the others would not find it.
    last = ["threads.retry_after_item", "threads.delete"]
    bodies = sorted(every_operation(things), key=lambda body: last.index(body["type"]) if body["type"] in last else -1)

    statuses = {body["type"]: (await alice.post("/", json=body)).status_code for body in bodies}

    # The file went into the message of `threads.create`, and is not deleted from under it.
    assert statuses.pop("attachments.delete") == 409
    assert set(statuses.values()) == {200}


class TestStrangers:
    @pytest.mark.parametrize("stranger", STRANGERS)
    async def test_what_is_not_theirs_looks_like_what_is_not_there(
        self, strangers: Clients, things: Belongings, stranger: str
    ):
        for theirs, nobodys in zip(every_operation(things), every_operation(NOBODYS), strict=True):
            if theirs["type"] in ADDRESSES_NOTHING:
                continue
            refused = await strangers[stranger].post("/", json=theirs)
            missing = await strangers[stranger].post("/", json=nobodys)

            assert refusal(refused, 404)["code"] == "not_found", theirs
            assert without_ids(refused.text, things) == without_ids(missing.text, NOBODYS)
            assert refused.headers.keys() == missing.headers.keys()

    @pytest.mark.parametrize("stranger", STRANGERS)
    async def test_a_thread_of_ones_own_is_no_door_to_the_items_of_others(
        self, strangers: Clients, things: Belongings, stranger: str
    ):
        own = await settle_in(strangers[stranger])
        ids = {"question", "answer", "quiz", "widget", "loose_file"}
        mixed = Belongings(**{**own.ids, **{name: things.ids[name] for name in ids}})
        nobodys = Belongings(**{**own.ids, **{name: NOBODYS.ids[name] for name in ids}})

        tried = 0
        for theirs, missing in zip(every_operation(mixed), every_operation(nobodys), strict=True):
            if theirs == missing:
                continue  # it is about the thread only, which is their own
            tried += theirs["type"] != "threads.list"
            refused = await strangers[stranger].post("/", json=theirs)
            not_there = await strangers[stranger].post("/", json=missing)
            assert refusal(refused, 404)["code"] == "not_found", theirs
            assert without_ids(refused.text, mixed) == without_ids(not_there.text, nobodys)
        assert tried == 8

    @pytest.mark.parametrize("stranger", STRANGERS)
    async def test_nothing_of_the_owners_changes_by_a_byte(
        self, strangers: Clients, things: Belongings, store: BaseStore, tmp_path: Path, stranger: str
    ):
        before, files = await everything_of(store, ALICE, things), on_disk(tmp_path)

        for body in every_operation(things):
            await strangers[stranger].post("/", json=body)
            assert await everything_of(store, ALICE, things) == before, body

        assert files.items() <= on_disk(tmp_path).items()

    @pytest.mark.parametrize("stranger", STRANGERS)
    async def test_their_lists_are_empty(self, strangers: Clients, things: Belongings, stranger: str):
        assert await call(strangers[stranger], "threads.list") == {"data": [], "has_more": False}

    async def test_who_is_nobody_is_told_so_before_anything_is_looked_at(
        self, chat: ChatApp, things: Belongings, store: BaseStore
    ):
        before = await everything_of(store, ALICE, things)
        async with client_of(chat) as nobody, client_of(chat, "forged-token") as forger:
            for body in every_operation(things):
                assert refusal(await nobody.post("/", json=body), 401)["code"] == "unauthenticated"
                assert refusal(await forger.post("/", json=body), 401)["code"] == "unauthenticated"

        assert await everything_of(store, ALICE, things) == before


class TestClaimsOfIdentity:
    CLAIMS = ("X-User-Id", "X-User-ID", "X-Forwarded-User", "X-Auth-Request-User", "Remote-User")

    async def test_a_claim_without_a_credential_is_nobody(self, chat: ChatApp, things: Belongings):
        body = request("threads.get_by_id", thread_id=things.thread)
        claiming = {**body, "metadata": {"user_id": "alice", "userInfo": {"id": "alice"}}, "user_id": "alice"}
        headers = {**dict.fromkeys(self.CLAIMS, "alice"), "Cookie": "user=alice; user_id=alice"}
        async with client_of(chat) as nobody:
            answer = await nobody.post("/?user_id=alice", json=claiming, headers=headers)

        refusal(answer, 401)

    async def test_the_credential_wins_over_every_claim(self, bob: httpx.AsyncClient, things: Belongings):
        body = {**request("threads.list"), "metadata": {"user_id": "alice", "tenant": ""}, "user_id": "alice"}

        answer = await bob.post("/?user_id=alice", json=body, headers=dict.fromkeys(self.CLAIMS, "alice"))

        assert answer.json()["data"] == []


class TestFiles:
    async def test_a_file_in_a_message_goes_into_no_second_one(
        self, alice: httpx.AsyncClient, things: Belongings, store: BaseStore
    ):
        before = await everything_of(store, ALICE, things)

        again = request("threads.create", input=message("Again", attachments=[things.used_file]))
        refusal(await alice.post("/", json=again), 409)
        refusal(await alice.post("/", json=request("attachments.delete", attachment_id=things.used_file)), 409)

        assert await everything_of(store, ALICE, things) == before

    @pytest.mark.parametrize("stranger", STRANGERS)
    @pytest.mark.parametrize("file", ["used_file", "loose_file"])
    async def test_a_foreign_file_is_in_nobodys_message(
        self, strangers: Clients, things: Belongings, store: BaseStore, stranger: str, file: str
    ):
        before = await everything_of(store, ALICE, things)
        own = (await stream(strangers[stranger], question("Mine"))).thread_id
        sent = message("Yours", attachments=[things.ids[file]])

        refusal(await strangers[stranger].post("/", json=request("threads.create", input=sent)), 404)
        into = request("threads.add_user_message", thread_id=own, input=sent)
        refusal(await strangers[stranger].post("/", json=into), 404)
        refusal(await strangers[stranger].get(f"/attachments/{things.ids[file]}"), 404)

        assert await everything_of(store, ALICE, things) == before
        listed = await call(strangers[stranger], "threads.list")
        assert [thread["id"] for thread in listed["data"]] == [own], "no thread is left of the refused message"


class TestFeedback:
    async def test_one_foreign_item_among_ones_own_spoils_all(
        self, bob: httpx.AsyncClient, things: Belongings, store: BaseStore
    ):
        own = await settle_in(bob)
        kept = watch_feedback(store)

        for ids in ([things.answer], [own.answer, things.answer], [own.answer, NOBODYS.answer]):
            body = request("items.feedback", thread_id=own.thread, item_ids=ids, kind="positive")
            refusal(await bob.post("/", json=body), 404)
        of_a_question = request("items.feedback", thread_id=own.thread, item_ids=[own.question], kind="positive")
        refusal(await bob.post("/", json=of_a_question), 422)

        assert kept == []
        mine = request("items.feedback", thread_id=own.thread, item_ids=[own.answer], kind="positive")
        assert (await bob.post("/", json=mine)).status_code == 200
        assert kept == [own.answer]


def watch_feedback(store: Any) -> list[str]:
    """The ids of the items whose feedback is stored from now on."""
    kept: list[str] = []
    save = store.save_feedback

    async def watched(thread_id: str, item_ids: list[str], *rest: Any) -> None:
        kept.extend(item_ids)
        await save(thread_id, item_ids, *rest)

    store.save_feedback = watched
    return kept


def on_disk(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "files").rglob("*") if path.is_file()}
