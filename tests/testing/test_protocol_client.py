"""`ProtocolClient`: what it sends, what it makes of the answers, and what it does not let pass."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NoReturn

import pytest
from chatkit.actions import Action
from chatkit.types import (
    AssistantMessageContentPartTextDelta,
    FileAttachment,
    InferenceOptions,
    Page,
    StructuredInputAnswerSubmission,
    StructuredInputSubmission,
    SyncCustomActionResponse,
    Thread,
    ThreadCreatedEvent,
    TranscriptionResult,
    UserMessageInput,
    UserMessageTextContent,
)
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from asgi.serving import PATIENCE, Site, serving
from chatkit_rag.testing import ProtocolClient, ProtocolViolation, Refused
from chatkit_rag.testing.frames import FrameReader
from testing.stock_server import StockServer, app_of

pytestmark = pytest.mark.anyio

NOW = "2026-01-05T10:00:00Z"
THREAD = {"id": "thr_1", "created_at": NOW, "status": {"type": "active"}, "items": {"data": [], "has_more": False}}
CREATED = {"type": "thread.created", "thread": THREAD}
NOTICE = {"type": "notice", "level": "info", "message": "Zürich\n\n👩‍🚀"}
FAILED = {"type": "error", "code": "custom", "message": "The model is away.", "allow_retry": True}

HELLO = {"content": [{"type": "input_text", "text": "Hello"}], "attachments": [], "inference_options": {}}
ANSWERS = StructuredInputSubmission(answers={"q1": StructuredInputAnswerSubmission(values=["a"])})
MORE = Action[str, Any](type="more", payload={"page": None})

Operation = Callable[[ProtocolClient], Any]
STREAMING: dict[str, tuple[Operation, dict[str, Any]]] = {
    "threads.create": (lambda client: client.create_thread("Hello"), {"input": HELLO}),
    "threads.add_user_message": (
        lambda client: client.add_user_message("thr_1", "Hello"),
        {"thread_id": "thr_1", "input": HELLO},
    ),
    "threads.add_client_tool_output": (
        lambda client: client.add_client_tool_output("thr_1", None),
        {"thread_id": "thr_1", "result": None},
    ),
    "threads.add_structured_input": (
        lambda client: client.add_structured_input("thr_1", "si_1", ANSWERS),
        {
            "thread_id": "thr_1",
            "item_id": "si_1",
            "input": {"status": "answered", "answers": {"q1": {"values": ["a"], "skipped": False}}},
        },
    ),
    "threads.retry_after_item": (
        lambda client: client.retry_after_item("thr_1", "msg_1"),
        {"thread_id": "thr_1", "item_id": "msg_1"},
    ),
    "threads.custom_action": (
        lambda client: client.custom_action("thr_1", MORE, "wid_1"),
        {"thread_id": "thr_1", "item_id": "wid_1", "action": MORE.model_dump()},
    ),
}
PAGE = {"data": [], "has_more": True, "after": "x"}
ATTACHMENT = {"id": "atc_1", "type": "file", "name": "a.txt", "mime_type": "text/plain"}
OTHERS: dict[str, tuple[Operation, dict[str, Any], dict[str, Any], object]] = {
    "threads.sync_custom_action": (
        lambda client: client.sync_custom_action("thr_1", MORE),
        {"thread_id": "thr_1", "action": MORE.model_dump()},
        {},
        SyncCustomActionResponse(),
    ),
    "threads.get_by_id": (
        lambda client: client.get_thread("thr_1"),
        {"thread_id": "thr_1"},
        THREAD,
        Thread.model_validate(THREAD),
    ),
    "threads.list": (
        lambda client: client.list_threads(limit=-1, order="asc", after="thr_0"),
        {"limit": -1, "order": "asc", "after": "thr_0"},
        PAGE | {"data": [THREAD]},
        Page[Thread](data=[Thread.model_validate(THREAD)], has_more=True, after="x"),
    ),
    "items.list": (
        lambda client: client.list_items("thr_1"),
        {"thread_id": "thr_1", "order": "desc"},
        PAGE,
        Page(data=[], has_more=True, after="x"),
    ),
    "threads.update": (
        lambda client: client.update_thread("thr_1", "A title"),
        {"thread_id": "thr_1", "title": "A title"},
        THREAD,
        Thread.model_validate(THREAD),
    ),
    "threads.delete": (lambda client: client.delete_thread("thr_1"), {"thread_id": "thr_1"}, {}, None),
    "items.feedback": (
        lambda client: client.give_feedback("thr_1", ["msg_1"], "positive"),
        {"thread_id": "thr_1", "item_ids": ["msg_1"], "kind": "positive"},
        {},
        None,
    ),
    "attachments.create": (
        lambda client: client.create_attachment("a.txt", size=1, mime_type="text/plain"),
        {"name": "a.txt", "size": 1, "mime_type": "text/plain"},
        ATTACHMENT,
        FileAttachment.model_validate(ATTACHMENT),
    ),
    "attachments.delete": (lambda client: client.delete_attachment("atc_1"), {"attachment_id": "atc_1"}, {}, None),
    "input.transcribe": (
        lambda client: client.transcribe("c3A=", mime_type="audio/webm"),
        {"audio_base64": "c3A=", "mime_type": "audio/webm"},
        {"text": "speech"},
        TranscriptionResult(text="speech"),
    ),
}


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def answering(content: bytes, *, status: int = 200, media_type: str = "text/event-stream") -> Starlette:
    """An app that answers every request with the same, and keeps the requests in `state.requests`."""

    async def answer(request: Request) -> Response:
        request.app.state.requests.append((request.headers, json.loads(await request.body())))
        return Response(content, status, media_type=media_type)

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    app.state.requests = []
    return app


@pytest.fixture
async def client() -> AsyncIterator[ProtocolClient]:
    """A client of ChatKit's own server."""
    async with ProtocolClient("/chatkit", app=app_of(StockServer())) as client:
        yield client


class TestWhatIsSent:
    @pytest.mark.parametrize("operation", STREAMING)
    async def test_operations_that_stream_are_spelled_as_chatkit_spells_them(self, operation: str):
        call, params = STREAMING[operation]
        app = answering(frames(CREATED))

        async with ProtocolClient("/", app=app) as client:
            answer = await call(client)

        assert [body for _, body in app.state.requests] == [{"type": operation, "params": params}]
        assert answer.events == [ThreadCreatedEvent(thread=Thread.model_validate(THREAD))]

    @pytest.mark.parametrize("operation", OTHERS)
    async def test_the_others_are_too_and_their_answers_are_chatkit_s_types(self, operation: str):
        call, params, answer, expected = OTHERS[operation]
        app = answering(json.dumps(answer).encode(), media_type="application/json")

        async with ProtocolClient("/", app=app) as client:
            answered = await call(client)

        assert [body for _, body in app.state.requests] == [{"type": operation, "params": params}]
        assert answered == expected

    async def test_a_message_may_be_more_than_a_text(self):
        app = answering(frames(CREATED))
        message = UserMessageInput(
            content=[UserMessageTextContent(text="Why?")],
            attachments=["atc_1"],
            quoted_text="a node",
            inference_options=InferenceOptions(model="m"),
        )

        async with ProtocolClient("/", app=app) as client:
            await client.create_thread(message)

        [(_, body)] = app.state.requests
        assert body["params"]["input"] == message.model_dump(exclude_none=True)

    async def test_a_client_s_options_go_with_every_request_and_another_client_s_stay_its_own(self):
        app = answering(b"{}", media_type="application/json")

        async with ProtocolClient("/", app=app, token="a", headers={"X-Site": "s"}, metadata={"site": "s"}) as client:
            other = client.with_options(
                token="b", metadata={"lang": "de"}, headers={"x-site": "t"}, idempotency_key="k"
            )
            await other.delete_thread("thr_1")
            await client.delete_thread("thr_1")

        (others, other_body), (own, own_body) = app.state.requests
        assert (others["authorization"], others.getlist("x-site"), others["idempotency-key"]) == (
            "Bearer b",
            ["t"],
            "k",
        )
        assert other_body["metadata"] == {"site": "s", "lang": "de"}
        assert (own["authorization"], own["x-site"], "idempotency-key" in own) == ("Bearer a", "s", False)
        assert own_body["metadata"] == {"site": "s"}
        assert own["content-type"] == "application/json"

    async def test_a_redirect_to_the_same_address_with_a_slash_is_followed(self):
        app = Starlette(routes=[Mount("/chatkit", answering(frames(CREATED)))])

        async with ProtocolClient("/chatkit", app=app) as client:
            answer = await client.create_thread("Hello")

        assert answer.kinds == ["thread.created"]

    async def test_any_bytes_can_be_sent_and_any_answer_is_returned(self, client: ProtocolClient):
        response = await client.send(b"{")

        assert response.status_code == 500


class TestAnswers:
    async def test_one_that_is_awaited_tells_what_it_was(self, client: ProtocolClient):
        answer = await client.create_thread("What is a node?")

        assert answer.complete
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.kinds[:4] == ["thread.created", "thread.item.done", "stream_options", "thread.item.added"]
        assert answer.kinds[-1] == "thread.item.done"
        assert answer.thread == answer.events[0].thread
        assert answer.question.content == [UserMessageTextContent(text="What is a node?")]
        assert answer.deltas == ["A node is ", "a process."]
        assert answer.of(AssistantMessageContentPartTextDelta)[1].delta == "a process."
        assert answer.text == "A node is a process."
        assert answer.items == [answer.question, answer.reply]
        assert answer.item(answer.reply.id) == answer.reply
        assert (answer.annotations, answer.errors) == ([], [])
        assert [event["type"] for event in answer.json] == [event.type for event in answer.events]

    async def test_what_did_not_come_is_missed_with_what_did(self):
        async with ProtocolClient("/", app=answering(frames(CREATED, FAILED))) as client:
            answer = await client.create_thread("Hello")

        assert [error.message for error in answer.errors] == ["The model is away."]
        with pytest.raises(AssertionError, match=r"no finished reply.*thread\.created.*The model is away"):
            _ = answer.reply

    async def test_fields_that_chatkit_does_not_know_are_in_the_json(self):
        async with ProtocolClient("/", app=answering(frames(NOTICE | {"status": "interrupted"}))) as client:
            answer = await client.create_thread("Hello")

        assert answer.json[0]["status"] == "interrupted"

    async def test_nothing_is_sent_before_it_is_read_nor_read_outside_its_block(self):
        app = answering(frames(CREATED))

        async with ProtocolClient("/", app=app) as client:
            answer = client.create_thread("Hello")
            with pytest.raises(RuntimeError, match="async with"):
                await anext(answer)

        assert app.state.requests == []

    async def test_comments_are_passed_over(self):
        stream = b": ping\n\n" + frames(CREATED) + b": ping\n\n" + frames(NOTICE)

        async with ProtocolClient("/", app=answering(stream)) as client:
            answer = await client.create_thread("Hello")

        assert answer.kinds == ["thread.created", "notice"]

    @given(st.lists(st.integers(0, 2000), max_size=20))
    def test_it_does_not_matter_how_a_stream_is_cut_into_pieces(self, cuts: list[int]):
        stream = b": ping\n\n" + frames(CREATED, NOTICE, FAILED)
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        reader = FrameReader()

        read = [frame for start, end in pairwise(places) for frame in reader.feed(stream[start:end])]
        reader.end()

        assert [frame.json for frame in read] == [CREATED, NOTICE, FAILED]


class Slow:
    """An app that sends one event, and a second when it is told to; it knows when its reader has left."""

    def __init__(self, media_type: bytes = b"text/event-stream") -> None:
        self.media_type = media_type
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        headers = [(b"content-type", self.media_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": frames(CREATED), "more_body": True})
        leaving = asyncio.ensure_future(receive())
        going_on = asyncio.ensure_future(self.go_on.wait())
        await asyncio.wait({leaving, going_on}, return_when="FIRST_COMPLETED")
        if leaving.done():
            self.left.set()
        else:
            await send({"type": "http.response.body", "body": frames(NOTICE)})
        leaving.cancel()
        going_on.cancel()


async def left(app: Slow, site: Site) -> None:
    """Returns when the app, in its own thread, has noticed that its reader left."""
    noticed = asyncio.run_coroutine_threadsafe(app.left.wait(), site.loop)
    await asyncio.wait_for(asyncio.wrap_future(noticed), PATIENCE)


def stumble() -> NoReturn:
    raise KeyError


class TestStreaming:
    async def test_events_arrive_one_by_one_and_reading_can_be_taken_up_again(self):
        app = Slow()

        async with (
            serving(app) as site,
            ProtocolClient(f"http://127.0.0.1:{site.port}/") as client,
            client.create_thread("Hello") as answer,
        ):
            async for _event in answer:
                break
            before = (answer.kinds, answer.complete)
            site.loop.call_soon_threadsafe(app.go_on.set)
            rest = [event.type async for event in answer]

        assert before == (["thread.created"], False)
        assert (rest, answer.complete) == (["notice"], True)

    @pytest.mark.parametrize("how", [lambda: None, stumble], ids=["quietly", "over an error"])
    async def test_a_reader_who_leaves_is_noticed_by_the_server(self, how: Callable[[], None]):
        app = Slow()

        async with serving(app) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/") as client:
            with suppress(KeyError):
                async with client.create_thread("Hello") as answer:
                    async for _event in answer:
                        how()
                        break
            await left(app, site)

        assert (answer.kinds, answer.complete) == (["thread.created"], False)

    async def test_one_who_leaves_before_the_first_event_is_too(self):
        app = Slow()

        async with serving(app) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/") as client:
            async with client.create_thread("Hello") as answer:
                pass
            await left(app, site)

        assert answer.events == []

    async def test_so_is_one_to_whom_the_answer_s_type_is_a_violation(self):
        app = Slow(b"text/plain")

        async with serving(app) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/") as client:
            with pytest.raises(ProtocolViolation):
                await client.create_thread("Hello")

            await left(app, site)

    async def test_a_connection_that_is_cut_is_a_violation(self):
        async def breaks_off() -> AsyncIterator[bytes]:
            yield frames(CREATED)
            raise RuntimeError("the test breaks off")

        async def answer(_request: Request) -> Response:
            return StreamingResponse(breaks_off(), media_type="text/event-stream")

        app = Starlette(routes=[Route("/", answer, methods=["POST"])])

        async with serving(app) as site, ProtocolClient(f"http://127.0.0.1:{site.port}/") as client:
            with pytest.raises(ProtocolViolation, match="the stream was cut"):
                await client.create_thread("Hello")
        async with ProtocolClient("/", app=app) as client:
            with pytest.raises(ProtocolViolation, match=r"the stream was cut.*the test breaks off"):
                await client.create_thread("Hello")


class TestViolations:
    @pytest.mark.parametrize(
        ("stream", "complaint"),
        [
            (b"event: notice\n" + frames(NOTICE), "a frame is one line"),
            (frames(NOTICE).replace(b"\n", b"\r\n"), "ends within a frame"),
            (frames(NOTICE).replace(b"data: ", b"data:"), "a frame is one line"),
            (b"data: {}\ndata: {}\n\n", "a frame is one line"),
            (b": ping\ndata: {}\n\n", "a frame is one line"),
            (b"\n\n", "a frame is one line"),
            (b":ping\n\n", "a frame is one line"),
            (frames(NOTICE)[:-1], "ends within a frame"),
            (b"data: [DONE]\n\n", "not JSON"),
            (b'data: {"type": NaN}\n\n', "not JSON"),
            (b"data: []\n\n", "no event of ChatKit's"),
            (frames({"type": "response.created"}), "no event of ChatKit's.*response.created"),
            (frames(NOTICE | {"level": "loud"}), "no event of ChatKit's.*level"),
        ],
    )
    async def test_a_stream_that_breaks_the_form(self, stream: bytes, complaint: str):
        async with ProtocolClient("/", app=answering(frames(CREATED) + stream)) as client:
            with pytest.raises(ProtocolViolation, match=complaint):
                await client.create_thread("Hello")

    @pytest.mark.parametrize(
        "answer",
        [
            lambda: PlainTextResponse(frames(CREATED)),
            lambda: JSONResponse({}),
            lambda: Response(frames(CREATED), 202, media_type="text/event-stream"),
        ],
        ids=["plain text", "JSON", "another status"],
    )
    async def test_a_stream_of_another_type_or_status(self, answer: Callable[[], Response]):
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            await answer()(scope, receive, send)

        async with ProtocolClient("/", app=respond) as client:
            with pytest.raises(ProtocolViolation, match="not 200 of 'text/event-stream'"):
                await client.create_thread("Hello")

    @pytest.mark.parametrize(
        ("content", "media_type"),
        [(b"{}", "application/json"), (b"no JSON", "application/json"), (json.dumps(THREAD).encode(), "text/html")],
    )
    async def test_an_answer_that_is_not_what_the_operation_answers(self, content: bytes, media_type: str):
        async with ProtocolClient("/", app=answering(content, media_type=media_type)) as client:
            with pytest.raises(ProtocolViolation):
                await client.get_thread("thr_1")

    def test_they_are_failed_assertions(self):
        assert issubclass(ProtocolViolation, AssertionError)


class TestRefusals:
    @pytest.mark.parametrize(
        "ask",
        [lambda client: client.create_thread("Hello"), lambda client: client.get_thread("thr_1")],
        ids=["streaming", "not streaming"],
    )
    async def test_one_says_its_status_code_message_and_details(self, ask: Callable[[ProtocolClient], Awaitable[Any]]):
        body = b'{"code": "not_found", "message": "no such thread", "details": {"thread": "thr_1"}}'

        async with ProtocolClient("/", app=answering(body, status=404, media_type="application/json")) as client:
            with pytest.raises(Refused, match="404 not_found no such thread") as refused:
                await ask(client)

        error = refused.value
        assert (error.status, error.code, error.message) == (404, "not_found", "no such thread")
        assert error.details == {"thread": "thr_1"}
        assert error.response.status_code == 404

    @pytest.mark.parametrize(
        ("body", "message"),
        [(b'{"detail": "Not Found"}', "Not Found"), (b"Bad Gateway", "Bad Gateway"), (b"[]", "[]")],
    )
    async def test_other_servers_words_are_understood(self, body: bytes, message: str):
        async with ProtocolClient("/", app=answering(body, status=502, media_type="text/plain")) as client:
            with pytest.raises(Refused) as refused:
                await client.create_thread("Hello")

        assert (refused.value.status, refused.value.code, refused.value.message) == (502, "", message)

    async def test_an_app_in_process_that_fails_is_a_500_as_over_a_network(self, client: ProtocolClient):
        with pytest.raises(Refused) as refused:
            await client.get_thread("thr_none")

        assert refused.value.status == 500

    async def test_an_app_without_a_handler_of_its_own_is_too(self):
        async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise RuntimeError("the test fails")

        async with ProtocolClient("/", app=fails) as client:
            with pytest.raises(Refused) as refused:
                await client.get_thread("thr_1")

        assert refused.value.status == 500


class TestImports:
    @pytest.mark.parametrize(
        ("missing", "wanted", "says"),
        [
            ("pytest", "ProtocolClient", "ok"),
            ("pytest", "FakeModelServer", "ok"),
            ("httpx", "FakeModelServer", "ok"),
            ("httpx", "ProtocolClient", "needs httpx: pip install httpx"),
            ("pytest", "ChatServerContract", "needs pytest: pip install pytest"),
        ],
    )
    def test_what_is_not_installed_is_only_missed_by_what_needs_it(self, missing: str, wanted: str, says: str):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            f"try: from chatkit_rag.testing import {wanted}; print('ok')\n"
            "except ImportError as exc: print(exc)"
        )

        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert says in ran.stdout
