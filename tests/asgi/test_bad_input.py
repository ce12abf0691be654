"""Requests that no well-meaning client sends: each gets a 4xx in one shape, none gets a 5xx or no answer at all."""

import asyncio
import copy
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.asgi.limits import BODY_BYTES, read_json_body
from chatkit_rag.errors import InvalidRequest
from protocol.frames import COVERED, UNCOVERED, ask, call, message, question, read_frames, refusal, request

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
MUTANTS = 2_000


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    return json.loads("[" * depth + "]" * depth)


def brief(value: Any) -> str:
    """The beginning and the end of a test's parameter, to name the test by."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:45]} … {text[-45:]}"


def asking(**changes: Any) -> dict[str, Any]:
    """A new thread whose message is changed."""
    return request("threads.create", input={**message(COVERED), **changes})


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"hello",
            b"null",
            b"3",
            b'"threads.list"',
            b"[]",
            b"[" * 100_000,
            b'{"a":' * 40_000,
            b'{"type": "threads.list"',
            b'{"type": "threads.list"} {}',
            b"{'type': 'threads.list'}",
            b'{"type": NaN}',
            b'{"type": "threads.list", "params": {"limit": Infinity}}',
            b'{"type": "threads.list", "metadata": {"a": "\\ud800"}}',
            b'{"type": "threads.list", "metadata": {"a": "\xff"}}',
            b"\xef\xbb\xbf{}",
            '{"type": "threads.list"}'.encode("utf-16"),
            b"\x00",
            b"type=threads.list",
        ],
        ids=brief,
    )
    async def test_what_is_no_json_object_is_refused(self, client: httpx.AsyncClient, body: bytes):
        assert refusal(await client.post("/", content=body, headers=JSON), 400)["code"] == "not_json"

    @pytest.mark.parametrize(
        "media_type",
        ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
    )
    async def test_another_media_type_is_refused(self, client: httpx.AsyncClient, media_type: str):
        refused = await client.post(
            "/", content=json.dumps(request("threads.list")), headers={"Content-Type": media_type}
        )

        assert refusal(refused, 415)["code"] == "unsupported_media_type"

    @pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
    async def test_json_may_be_said_in_other_words(self, client: httpx.AsyncClient, media_type: str):
        body = json.dumps(request("threads.list"))

        assert (await client.post("/", content=body, headers={"Content-Type": media_type})).status_code == 200

    async def test_a_body_that_says_it_is_too_large_is_not_read(self, client: httpx.AsyncClient):
        read = []

        async def body() -> AsyncIterator[bytes]:
            read.append(True)
            yield b"{}"

        for length in (BODY_BYTES + 1, 10**30, "9" * 5000):
            refused = await client.post("/", content=body(), headers={**JSON, "Content-Length": str(length)})
            assert refusal(refused, 413)["details"] == {"limit_bytes": BODY_BYTES}
        assert read == []

    async def test_a_body_that_does_not_say_its_length_is_read_up_to_the_limit(self, client: httpx.AsyncClient):
        read = []

        async def body() -> AsyncIterator[bytes]:
            for _ in range(10_000):
                read.append(4096)
                yield b" " * 4096

        refused = await client.post("/", content=body(), headers=JSON)

        assert refusal(refused, 413)["code"] == "payload_too_large"
        assert BODY_BYTES < sum(read) <= BODY_BYTES + 2 * 4096

    async def test_a_body_up_to_the_limit_is_read(self, client: httpx.AsyncClient):
        body = json.dumps(request("threads.list")).encode()

        assert (await client.post("/", content=body.ljust(BODY_BYTES), headers=JSON)).status_code == 200

    async def test_a_body_that_never_comes_is_given_up(self):
        async def receive() -> Any:
            await asyncio.Event().wait()

        slow = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)

        with pytest.raises(InvalidRequest):
            await read_json_body(slow, within=0.01)

    async def test_a_client_that_leaves_before_its_body_is_complete_is_no_error_of_ours(
        self, chat: ChatApp, caplog: pytest.LogCaptureFixture
    ):
        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        await chat(scope, receive, send)

        assert messages == []
        assert sent[0]["status"] == 422
        assert caplog.records == []


class TestValues:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"type": None},
            {"type": 3},
            {"type": ["threads.list"]},
            {"type": "threads"},
            {"type": "threads.destroy", "params": {}},
            {"type": "THREADS.LIST"},
            {"type": "threads.run", "params": {"thread_id": "x"}},
        ],
        ids=brief,
    )
    async def test_an_unknown_operation_is_told_the_known_ones(self, client: httpx.AsyncClient, body: dict[str, Any]):
        refused = refusal(await client.post("/", json=body), 400)

        assert refused["code"] == "unknown_operation"
        assert "threads.create" in refused["details"]["operations"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"type": "threads.create"}, "params"),
            ({"type": "threads.create", "params": None}, "params"),
            ({"type": "threads.create", "params": []}, "params"),
            (request("threads.create"), "params.input"),
            (request("threads.create", input="Hello"), "params.input"),
            (asking(content="Hello"), "params.input.content"),
            (asking(content=["Hello"]), "params.input.content.0"),
            (asking(content=[{"type": "input_text"}]), "params.input.content.0.input_text.text"),
            (asking(content=[{"type": "input_text", "text": 3}]), "params.input.content.0.input_text.text"),
            (asking(content=[{"type": "input_video", "text": "a"}]), "params.input.content.0"),
            (asking(attachments="a"), "params.input.attachments"),
            (asking(quoted_text=[]), "params.input.quoted_text"),
            (asking(inference_options=3), "params.input.inference_options"),
            (request("threads.get_by_id"), "params.thread_id"),
            (request("threads.get_by_id", thread_id=3), "params.thread_id"),
            (request("items.list", thread_id=None), "params.thread_id"),
            (request("items.list", thread_id="t", order="up"), "params.order"),
            (request("threads.list", limit="many"), "params.limit"),
            (request("threads.list", limit=1.5), "params.limit"),
            (request("threads.list", limit=10**30), "params.limit"),
            (request("threads.list", after=3), "params.after"),
            (request("threads.retry_after_item", thread_id="t"), "params.item_id"),
            ({**request("threads.list"), "metadata": "page"}, "metadata"),
        ],
        ids=brief,
    )
    async def test_a_missing_or_wrong_field_is_named(self, client: httpx.AsyncClient, body: dict[str, Any], field: str):
        refused = refusal(await client.post("/", json=body), 422)

        assert field in [problem["field"] for problem in refused["details"]["problems"]]

    @pytest.mark.parametrize(
        "body",
        [
            asking(content=[]),
            question(""),
            question(" \n\t\N{NO-BREAK SPACE}"),
            question("x" * 32_001),
            question("a\0b"),
            asking(quoted_text="\0"),
            {**question(COVERED), "metadata": {"a\0": 1}},
            {**question(COVERED), "metadata": {"a": nested(40)}},
            {**question(COVERED), "metadata": {"a": "x" * 10_000}},
            {**question(COVERED), "metadata": {str(number): 1 for number in range(51)}},
            asking(attachments=[f"atc_{number}" for number in range(11)]),
            request("threads.update", thread_id="t", title=" "),
            request("threads.update", thread_id="t", title="x" * 201),
            request("threads.get_by_id", thread_id=""),
            request("threads.get_by_id", thread_id="x" * 256),
            request("items.list", thread_id="t", after="x" * 256),
            request("threads.list", after="x" * 256),
        ],
        ids=brief,
    )
    async def test_a_value_out_of_bounds_is_refused_and_nothing_is_stored(
        self, client: httpx.AsyncClient, body: dict[str, Any]
    ):
        assert refusal(await client.post("/", json=body), 422)["code"] == "invalid_request"
        assert (await call(client, "threads.list"))["data"] == []

    async def test_the_longest_message_is_taken(self, client: httpx.AsyncClient):
        answer = await ask(client, "🤖" * 32_000)

        assert answer.kinds[-1] == "thread.item.done"

    @pytest.mark.parametrize(
        "body",
        [
            request("threads.get_by_id", thread_id="thr_none"),
            request("items.list", thread_id="thr_none"),
            request("items.list", thread_id="KNOWN", after="msg_none"),
            request("threads.list", after="thr_none"),
            request("threads.add_user_message", thread_id="thr_none", input=message(COVERED)),
            request("threads.retry_after_item", thread_id="thr_none", item_id="msg_none"),
            request("threads.retry_after_item", thread_id="KNOWN", item_id="msg_none"),
            request("threads.get_by_id", thread_id="'; DROP TABLE threads; --"),
            request("threads.get_by_id", thread_id="../../etc/passwd"),
            asking(attachments=["atc_none"]),
        ],
        ids=brief,
    )
    async def test_what_is_not_there_is_not_found(self, client: httpx.AsyncClient, body: dict[str, Any]):
        known = (await ask(client, UNCOVERED)).thread_id

        refused = await client.post("/", json=json.loads(json.dumps(body).replace("KNOWN", known)))

        assert refusal(refused, 404)["code"] == "not_found"
        assert [thread["id"] for thread in (await call(client, "threads.list"))["data"]] == [known]

    async def test_a_page_context_of_any_shape_is_no_error(self, client: httpx.AsyncClient):
        for page in (None, 3, [], "page", {"title": 3, "headings": "x", "url": None}, {"headings": [1, None, {}]}):
            body = {**question(UNCOVERED), "metadata": {"pageContext": page}}
            assert read_frames((await client.post("/", json=body)).text)[-1]["type"] == "thread.item.done"


class TestMutants:
    """Valid requests with a few things changed at random; the seed is in the test's name."""

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_every_one_is_answered_and_never_by_a_5xx(self, client: httpx.AsyncClient, seed: int):
        dice = random.Random(seed)
        known = await ask(client, UNCOVERED)
        requests = [
            question(UNCOVERED),
            question(COVERED, known.thread_id),
            request("threads.retry_after_item", thread_id=known.thread_id, item_id=known.question["id"]),
            request("threads.get_by_id", thread_id=known.thread_id),
            request("threads.list", limit=2, order="asc", after=known.thread_id),
            request("items.list", thread_id=known.thread_id, limit=2, order="desc", after=known.question["id"]),
        ]
        statuses: list[int] = []
        for _ in range(MUTANTS // 2):
            body = mutant(dice, dice.choice(requests))
            response = await asyncio.wait_for(client.post("/", content=body, headers=JSON), 10)
            statuses.append(response.status_code)
            if response.status_code != 200:
                refusal(response, 400, 404, 422)
            elif response.headers["content-type"].startswith("text/event-stream"):
                assert all(event["type"] != "error" for event in read_frames(response.text)), body
            else:
                response.json()

        assert {200, 400, 404, 422} <= set(statuses)


STRANGE: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**63, 2**64, 10**40, 1e308, -0.0, 1.5),
    *("", " ", "a", "0", "null", "\0", "\N{RIGHT-TO-LEFT OVERRIDE}", "é" * 300, "🤖", "[1]", "`", "```", "\n\n"),
    *("data: x\n\n", "<script>", "../..", "asc", "hidden_context_item"),
    *([], {}, [[]], {"a": {"b": []}}, {"type": "input_text", "text": "x"}),
    {"type": "input_tag", "id": "t", "text": "T", "data": {}},
]


def strange(dice: random.Random) -> Any:
    return copy.deepcopy(dice.choice(STRANGE))


def mutant(dice: random.Random, body: dict[str, Any]) -> bytes:
    """`body` with one to three of its values changed, dropped, doubled or wrapped, and at times its bytes as well."""
    changed = json.loads(json.dumps(body))
    if dice.random() < 0.3:
        changed["metadata"] = {"pageContext": {"title": strange(dice)}, "more": strange(dice)}
    for _ in range(dice.randint(1, 3)):
        container, key = dice.choice(list(places(changed)) or [(changed, "type")])
        match dice.randrange(6):
            case 0:
                container.pop(key)
            case 1:
                container[key] = [container[key]] if dice.random() < 0.5 else {"type": container[key]}
            case 2 if isinstance(container, dict):
                container[dice.choice(["type", "id", "params", "metadata", "limit", ""])] = strange(dice)
            case _:
                container[key] = strange(dice)
        if not isinstance(changed, dict) or not changed:
            break
    text = json.dumps(changed).encode()
    if dice.random() < 0.15:
        place = dice.randrange(len(text) + 1)
        junk = dice.choice([b"\xff", b"\x00", b'"', b"}", b"\\", b"NaN", b"\\ud800", b""])
        text = text[:place] + junk + text[place + dice.randint(0, 3) :]
    return text


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key within a JSON value."""
    if isinstance(value, dict):
        found = [(value, key) for key in value]
        return found + [place for inner in value.values() for place in places(inner)]
    if isinstance(value, list):
        found = [(value, index) for index in range(len(value))]
        return found + [place for inner in value for place in places(inner)]
    return []
