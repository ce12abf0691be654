"""ChatKit's operations, as a browser meets them: over HTTP, in raw frames."""

import json
import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from chatkit_rag.retrieval.edge import EdgeIndex
from protocol.frames import COVERED, UNCOVERED, Event, ask, call, items_of, question, refusal, request, stream, texts

pytestmark = pytest.mark.anyio

ANSWERED = [
    COVERED,
    "What is Physical AI?",
    "can i start the same node twice under a different name?",
    "subscriber gets nothing but both nodes are running and the topic name is right",
]


class TestThreadsCreate:
    async def test_the_events_come_in_chatkit_s_order(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        begin, updates, end = answer.kinds[:4], answer.kinds[4:-1], answer.kinds[-1:]
        assert begin == ["thread.created", "thread.item.done", "stream_options", "thread.item.added"]
        assert updates[0] == "assistant_message.content_part.added"
        assert updates[-1] == "assistant_message.content_part.done"
        assert set(updates[1:-1]) == {
            "assistant_message.content_part.text_delta",
            "assistant_message.content_part.annotation_added",
        }
        assert end == ["thread.item.done"]
        assert answer.of("stream_options")[0]["stream_options"] == {"allow_cancel": True}

    async def test_the_stored_text_is_the_deltas_joined(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        assert len(answer.deltas) >= 2
        assert "".join(answer.deltas) == answer.text
        [done] = answer.of("assistant_message.content_part.done")
        assert done["content"] == answer.reply["content"][0]

    async def test_the_stored_citations_are_those_that_were_streamed(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        streamed = answer.of("assistant_message.content_part.annotation_added")
        assert streamed
        assert [update["annotation"] for update in streamed] == answer.annotations
        assert [update["annotation_index"] for update in streamed] == list(range(len(streamed)))
        assert all(0 <= annotation["index"] <= len(answer.text) for annotation in answer.annotations)

    @pytest.mark.parametrize("asked", ANSWERED)
    async def test_every_citation_leads_to_a_heading_that_the_course_has(
        self, client: httpx.AsyncClient, course_index: EdgeIndex, asked: str
    ):
        records = await course_index.records()
        pages = [record.document for record in records]
        headings = {(page.path, section.anchor) for page in pages for section in page.sections}

        answer = await ask(client, asked)

        cited = [urlsplit(annotation["source"]["url"]) for annotation in answer.annotations]
        assert cited
        assert all((url.path, url.fragment) in headings for url in cited)

    async def test_one_message_has_one_id_from_its_first_event_to_its_last(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        updated = {event["item_id"] for event in answer.events if event["type"] == "thread.item.updated"}
        assert updated == {answer.reply["id"]} == {answer.of("thread.item.added")[0]["item"]["id"]}
        assert {answer.reply["thread_id"], answer.question["thread_id"]} == {answer.thread_id}

    async def test_times_come_with_their_offset(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        written = re.findall(r'"created_at": "(.*?)"', json.dumps(answer.events))
        times = [datetime.fromisoformat(time) for time in written]
        assert len(times) == 4
        assert all(time.utcoffset() == timedelta(0) for time in times)

    async def test_what_was_acknowledged_is_there(self, client: httpx.AsyncClient):
        answer = await ask(client, COVERED)

        assert await items_of(client, answer.thread_id) == [answer.question, answer.reply]

    async def test_a_question_that_the_course_does_not_answer_is_declined(self, client: httpx.AsyncClient):
        answer = await ask(client, UNCOVERED)

        assert answer.annotations == []
        assert "does not cover" in answer.text
        assert await items_of(client, answer.thread_id) == [answer.question, answer.reply]


class TestThreadsAddUserMessage:
    async def test_it_continues_the_thread(self, client: httpx.AsyncClient):
        first = await ask(client, COVERED)

        second = await ask(client, "What is a topic?", first.thread_id)

        assert second.kinds[:3] == ["thread.item.done", "stream_options", "thread.item.added"]
        assert await items_of(client, first.thread_id) == [first.question, first.reply, second.question, second.reply]


class TestReading:
    async def test_a_thread_comes_with_its_newest_items_and_a_cursor_to_the_others(self, client: httpx.AsyncClient):
        thread_id, items = await long_thread(client, turns=11)

        thread = await call(client, "threads.get_by_id", thread_id=thread_id)

        page = thread["items"]
        assert thread["id"] == thread_id
        assert page["data"] == items[2:]
        assert page["has_more"] is True
        older = await call(client, "items.list", thread_id=thread_id, after=page["after"], order="desc")
        assert older["data"] == [items[1], items[0]]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_the_pages_of_a_thread_are_the_thread(self, client: httpx.AsyncClient, order: str):
        thread_id, items = await long_thread(client, turns=3)

        collected, after = [], {}
        while True:
            page = await call(client, "items.list", thread_id=thread_id, order=order, limit=4, **after)
            assert len(page["data"]) <= 4
            collected += page["data"]
            if not page["has_more"]:
                break
            after = {"after": page["after"]}

        assert collected == (items if order == "asc" else items[::-1])
        assert "after" not in page

    async def test_threads_are_listed_newest_first_without_their_items(self, client: httpx.AsyncClient):
        ids = [(await ask(client, UNCOVERED)).thread_id for _ in range(3)]

        first = await call(client, "threads.list", limit=2)
        second = await call(client, "threads.list", limit=2, after=first["after"])

        assert [thread["id"] for thread in first["data"] + second["data"]] == ids[::-1]
        assert (first["has_more"], second["has_more"]) == (True, False)
        assert all(thread["items"]["data"] == [] for thread in first["data"])

    @pytest.mark.parametrize(("limit", "length"), [(-1, 1), (0, 1), (1, 1), (10**9, 3)])
    async def test_a_limit_is_brought_within_bounds(self, client: httpx.AsyncClient, limit: int, length: int):
        for _ in range(3):
            await ask(client, UNCOVERED)

        page = await call(client, "threads.list", limit=limit)

        assert len(page["data"]) == length


class TestRetryAfterItem:
    async def test_the_old_answer_goes_when_the_new_one_begins(self, client: httpx.AsyncClient):
        first = await ask(client, COVERED)

        again = await retry(client, first.thread_id, first.question)

        assert again.kinds[:3] == ["stream_options", "thread.item.removed", "thread.item.added"]
        assert again.of("thread.item.removed") == [{"type": "thread.item.removed", "item_id": first.reply["id"]}]
        assert again.reply["id"] != first.reply["id"]
        assert again.text == first.text
        assert await items_of(client, first.thread_id) == [first.question, again.reply]

    async def test_everything_after_the_question_goes(self, client: httpx.AsyncClient):
        first = await ask(client, COVERED)
        second = await ask(client, UNCOVERED, first.thread_id)

        again = await retry(client, first.thread_id, first.question)

        removed = [event["item_id"] for event in again.of("thread.item.removed")]
        assert removed == [first.reply["id"], second.question["id"], second.reply["id"]]
        assert await items_of(client, first.thread_id) == [first.question, again.reply]

    async def test_only_a_question_can_be_answered_again(self, client: httpx.AsyncClient):
        first = await ask(client, COVERED)

        refused = await client.post(
            "/", json=request("threads.retry_after_item", thread_id=first.thread_id, item_id=first.reply["id"])
        )

        assert refusal(refused, 422)["details"] == {"item_id": first.reply["id"]}
        assert await items_of(client, first.thread_id) == [first.question, first.reply]


class TestOwners:
    @pytest.mark.parametrize(
        ("operation", "params"),
        [
            ("threads.get_by_id", {}),
            ("items.list", {}),
            ("items.list", {"after": "ITEM"}),
            ("threads.retry_after_item", {"item_id": "ITEM"}),
            ("threads.add_user_message", {"input": question("Hello?")["params"]["input"]}),
        ],
    )
    async def test_another_s_thread_looks_like_none(self, client: httpx.AsyncClient, operation: str, params: dict):
        mine = await ask(client, COVERED)
        params = {name: mine.question["id"] if value == "ITEM" else value for name, value in params.items()}
        other = {"Authorization": f"Bearer {(await client.post('/session', json={})).json()['client_secret']}"}

        theirs = await client.post("/", json=request(operation, thread_id=mine.thread_id, **params), headers=other)
        none = await client.post("/", json=request(operation, thread_id="thr_none", **params), headers=other)

        assert refusal(theirs, 404) == json.loads(none.text.replace("thr_none", mine.thread_id))
        assert refusal(none, 404)["code"] == "not_found"
        assert await items_of(client, mine.thread_id) == [mine.question, mine.reply]

    async def test_another_s_threads_and_cursors_are_not_in_the_list(self, client: httpx.AsyncClient):
        mine = await ask(client, COVERED)
        other = {"Authorization": f"Bearer {(await client.post('/session', json={})).json()['client_secret']}"}

        listed = await client.post("/", json=request("threads.list"), headers=other)
        beyond = await client.post("/", json=request("threads.list", after=mine.thread_id), headers=other)

        assert listed.json()["data"] == []
        refusal(beyond, 404)


async def long_thread(client: httpx.AsyncClient, *, turns: int) -> tuple[str, list[Event]]:
    """A thread, and its items, oldest first."""
    first = await ask(client, "Question 0")
    items = [first.question, first.reply]
    for number in range(1, turns):
        answer = await ask(client, f"Question {number}", first.thread_id)
        items += [answer.question, answer.reply]
    assert texts(items[::2]) == [f"Question {number}" for number in range(turns)]
    return first.thread_id, items


async def retry(client: httpx.AsyncClient, thread_id: str, asked: Event):
    """Another answer to a question."""
    return await stream(client, request("threads.retry_after_item", thread_id=thread_id, item_id=asked["id"]))
