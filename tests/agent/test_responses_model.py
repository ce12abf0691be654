"""The lean Responses client over real HTTP: the same events as the SDK's own, and one kind of failure."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    ModelSettings,
    ModelTracing,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    handoff,
)
from agents.models.fake_id import FAKE_RESPONSES_ID
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.types.shared import Reasoning

from chatkit_rag.agent.models.event_reader import EventReader
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.agent.models.replay import ReplayModel
from chatkit_rag.agent.models.responses import ResponsesModel, typed_event
from chatkit_rag.errors import ModelFailed
from chatkit_rag.testing import FakeModelServer, ToolCall

pytestmark = pytest.mark.anyio

KEY = "sk-secret-of-the-test"
QUICK = ResponsesOptions(attempts=1)
BODY: dict[str, Any] = {"model": "fake", "input": "Hello?", "stream": True}

# The wire: what a scripted server says.

Event = dict[str, Any]
PLACE: Event = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def frame(event: Event) -> bytes:
    """One event as OpenAI sends it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def part(text: str) -> Event:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item(*content: Event, status: str = "completed") -> Event:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": list(content)}


def response(status: str, *output: Event, **fields: Any) -> Event:
    """The response object; as compatible servers send it, without the newest fields of `usage`."""
    details: Event = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 1}}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, **details}
    kept: Event = {"id": "resp_1", "object": "response", "created_at": 0, "model": "fake", "parallel_tool_calls": True}
    rest: Event = {"tool_choice": "auto", "tools": [], "output": list(output), "status": status, "usage": usage}
    return {**kept, **rest, **fields}


def numbered(events: Iterable[Event]) -> list[Event]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def delta(text: str) -> Event:
    return {"type": "response.output_text.delta", "delta": text, "logprobs": [], **PLACE}


CREATED: Event = {"type": "response.created", "response": response("in_progress", usage=None)}
BEGUN: list[Event] = [
    CREATED,
    {"type": "response.in_progress", "response": response("in_progress", usage=None)},
    {"type": "response.output_item.added", "output_index": 0, "item": item(status="in_progress")},
    {"type": "response.content_part.added", "part": part(""), **PLACE},
]


def ended(content: Event) -> list[Event]:
    return [
        {"type": "response.content_part.done", "part": content, **PLACE},
        {"type": "response.output_item.done", "output_index": 0, "item": item(content)},
        {"type": "response.completed", "response": response("completed", item(content))},
    ]


def answer(*pieces: str) -> list[Event]:
    """A whole answer in text."""
    text = "".join(pieces)
    done = {"type": "response.output_text.done", "text": text, "logprobs": [], **PLACE}
    return numbered([*BEGUN, *map(delta, pieces), done, *ended(part(text))])


def refusal(text: str) -> list[Event]:
    """The model declines in a content part of its own."""
    content: Event = {"type": "refusal", "refusal": text}
    said: list[Event] = [
        {"type": "response.refusal.delta", "delta": text, **PLACE},
        {"type": "response.refusal.done", "refusal": text, **PLACE},
    ]
    return numbered([*BEGUN[:3], *said, *ended(content)])


def tool_calls(*queries: str) -> list[Event]:
    """The model thinks, and calls a tool once for each query."""
    thought: Event = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": None}
    events: list[Event] = [
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": thought},
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
    ]
    calls: list[Event] = []
    for index, query in enumerate(queries, start=1):
        arguments = json.dumps({"query": query})
        where: Event = {"item_id": f"fc_{index}", "output_index": index}
        call: Event = {
            "id": f"fc_{index}",
            "type": "function_call",
            "call_id": f"call_{index}",
            "name": "search_course",
        }
        calls.append({**call, "status": "completed", "arguments": arguments})
        begun = {**call, "status": "in_progress", "arguments": ""}
        events += [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            {"type": "response.function_call_arguments.delta", "delta": arguments, **where},
            {"type": "response.function_call_arguments.done", "name": "search_course", "arguments": arguments, **where},
            {"type": "response.output_item.done", "output_index": index, "item": calls[-1]},
        ]
    return numbered([*events, {"type": "response.completed", "response": response("completed", thought, *calls)}])


ANNOTATED = {
    "type": "response.output_text.annotation.added",
    "annotation_index": 0,
    "annotation": {"type": "url_citation", "url": "https://x.test", "title": "X", "start_index": 0, "end_index": 1},
    **PLACE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server does with one request: a status, pieces of a body, and how it ends."""

    pieces: Iterable[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    end: Literal["end", "cut", "late", "garbage", "hold", "repeat"] = "end"
    """`late` ends in a packet of its own, `cut` breaks the connection, `garbage` is no HTTP, `hold` says nothing more,
    `repeat` says the last piece again and again."""
    chunk: int | None = None
    """The size in bytes of what is written at once."""


def said(events: Iterable[Event], **how: Any) -> Reply:
    return Reply(pieces=[b"".join(map(frame, events))], **how)


@dataclass(slots=True)
class Wire:
    """A scripted model server: a reply for each request, the last one for all that follow."""

    replies: list[Reply] = field(default_factory=list[Reply])
    bodies: list[Event] = field(default_factory=list[Event])
    heads: list[str] = field(default_factory=list[str])
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed its connection while a reply was held."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                self.heads.append(head.decode())
                self.bodies.append(json.loads(await reader.readexactly(int(length[15:]))))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await self._play(reply, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _play(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "\r\n"]).encode())
        piece = b""
        for piece in reply.pieces:
            step = reply.chunk or len(piece)
            for start in range(0, len(piece), step):
                writer.write(_chunk(piece[start : start + step]))
                await writer.drain()
        match reply.end:
            case "end":
                writer.write(b"0\r\n\r\n")
            case "late":
                await asyncio.sleep(0.02)
                writer.write(b"0\r\n\r\n")
            case "cut":
                writer.transport.abort()
            case "garbage":
                writer.write(b"garbage\r\n")
            case "hold":
                await reader.read()
                self.gone.set()
            case "repeat":
                while not writer.is_closing():
                    writer.write(_chunk(piece))
                    await writer.drain()
                    await asyncio.sleep(0.01)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0, limit=2**24)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield wire
        server.close()


@asynccontextmanager
async def client(url: str, options: ResponsesOptions = QUICK) -> AsyncIterator[ResponsesModel]:
    model = ResponsesModel("fake", api_key=KEY, base_url=url, options=options)
    try:
        yield model
    finally:
        await model.close()


@asynccontextmanager
async def both(url: str) -> AsyncIterator[tuple[ResponsesModel, OpenAIResponsesModel]]:
    """Our client, and the SDK's own."""
    async with client(url) as ours, AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as theirs:
        yield ours, OpenAIResponsesModel("fake", theirs)


def arguments(**changed: Any) -> dict[str, Any]:
    """What the runner calls a model with."""
    return {
        "system_instructions": "Be short.",
        "input": [{"role": "user", "content": "Hello?"}],
        "model_settings": ModelSettings(),
        "tools": [],
        "output_schema": None,
        "handoffs": [],
        "tracing": ModelTracing.DISABLED,
        "previous_response_id": None,
        "conversation_id": None,
        "prompt": None,
        **changed,
    }


async def typed(model: Any, **changed: Any) -> list[Any]:
    return [event async for event in model.stream_response(**arguments(**changed))]


async def raw(model: ResponsesModel, seen: list[Event] | None = None) -> list[Event]:
    seen = [] if seen is None else seen
    async for together in model.stream_raw(BODY):
        seen.extend(together)
    return seen


async def failure_of(model: ResponsesModel, seen: list[Event] | None = None) -> ResponseFailed:
    """The failure that the stream ends with; what came before it goes into `seen`."""
    with pytest.raises(ModelFailed) as caught:
        await raw(model, seen)
    assert isinstance(caught.value, ResponseFailed)
    return caught.value


def text_of(events: Iterable[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


class TestTheSameAsTheSdk:
    @pytest.mark.parametrize(
        "events",
        [answer("Hel", "lo 😀 ", "\u2028 wörld"), tool_calls("nodes"), tool_calls("nodes", "topics"), refusal("No.")],
        ids=["text", "one tool call", "two tool calls", "refusal"],
    )
    async def test_the_events_are_those_of_the_sdks_model(self, wire: Wire, events: list[Event]):
        wire.replies = [said(events)]

        async with both(wire.url) as (ours, theirs):
            got, expected = await typed(ours), await typed(theirs)

        assert [event.type for event in got] == [event["type"] for event in events]
        assert [type(event) for event in got] == [type(event) for event in expected]
        assert [event.model_dump() for event in got] == [event.model_dump() for event in expected]

    @pytest.mark.parametrize("reply", ["Yes [1].", ToolCall("search_course", {"query": "nodes"})])
    async def test_they_are_on_the_public_fake_server_too(self, reply: str | ToolCall):
        with FakeModelServer(script=[reply, reply]) as server:
            async with both(server.base_url) as (ours, theirs):
                got, expected = await typed(ours), await typed(theirs)

        assert [event.type for event in got] == [event.type for event in expected]
        assert [_without_number(event) for event in got] == [_without_number(event) for event in expected]

    async def test_the_whole_response_is_the_sdks_too(self, wire: Wire):
        wire.replies = [said(tool_calls("nodes"))]

        async with both(wire.url) as (ours, theirs):
            got = await ours.get_response(**arguments())
            expected = (await typed(theirs))[-1].response

        assert (got.output, got.response_id) == (expected.output, expected.id)
        assert (got.usage.requests, got.usage.input_tokens, got.usage.output_tokens) == (1, 3, 4)

    async def test_a_url_citation_reaches_chatkit_as_data(self, wire: Wire):
        events = answer("A")
        wire.replies = [said([*events[:5], ANNOTATED | {"sequence_number": 5}, *events[5:]])]

        async with client(wire.url) as model:
            [annotated] = [event for event in await typed(model) if event.type == ANNOTATED["type"]]

        assert annotated.annotation == ANNOTATED["annotation"]

    async def test_logprobs_are_typed_where_there_are_any(self, wire: Wire):
        events = answer("A")
        events[4]["logprobs"] = [{"token": "A", "logprob": -0.5, "top_logprobs": []}]
        wire.replies = [said(events)]

        async with both(wire.url) as (ours, theirs):
            assert (await typed(ours))[4] == (await typed(theirs))[4]

    async def test_events_of_tomorrow_pass_the_raw_door_and_not_the_typed_one(self, wire: Wire):
        events = [*answer("A")[:-1], {"type": "response.telepathy.delta", "delta": 1}, answer("A")[-1]]
        wire.replies = [said(events)]

        async with client(wire.url) as model:
            untyped, known = await raw(model), await typed(model)

        assert untyped == events
        assert len(known) == len(events) - 1

    async def test_warming_up_makes_no_request(self, wire: Wire):
        wire.replies = [said(answer("A"))]

        async with client(wire.url) as model:
            await model.warm_up()
            assert wire.connections == 0
            assert text_of(await raw(model)) == "A"


def _without_number(event: Any) -> Event:
    """An event of the fake server, which numbers its responses and their items."""
    return json.loads(event.model_dump_json().replace("_1", "_").replace("_2", "_"))


@function_tool
def search_course(query: str, limit: int = 5) -> str:
    """Searches the course.

    Args:
        query: What to look for.
        limit: How many passages.
    """
    return f"{query} {limit}"


CONVERSATION: list[Any] = [
    {"role": "user", "content": "What is a node?"},
    {"type": "function_call", "call_id": "call_1", "name": "search_course", "arguments": '{"query": "node"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "A node is 😀"},
    {"type": "reasoning", "id": "rs", "summary": [], "provider_data": {"model": "other"}},
    {**item(part("It is a process.")), "id": FAKE_RESPONSES_ID, "provider_data": {"model": "other"}},
]

REQUESTS: dict[str, dict[str, Any]] = {
    "a text": {"input": "Hello?"},
    "no instructions": {"system_instructions": None},
    "a conversation with tools": {"input": CONVERSATION, "tools": [search_course]},
    "another agent": {"handoffs": [handoff(Agent(name="Helper"))]},
    "a form": {"output_schema": AgentOutputSchema(dict[str, int], strict_json_schema=False)},
    "a stored prompt": {"prompt": {"id": "pmpt_1", "variables": {"name": "Ada"}}},
    "what came before": {"previous_response_id": "resp_0"},
    "a conversation of the server's": {"conversation_id": "conv_1"},
} | {
    f"{settings}": {"model_settings": settings, "tools": [search_course]}
    for settings in [
        ModelSettings(tool_choice="required", parallel_tool_calls=False),
        ModelSettings(tool_choice="search_course", temperature=0.0, top_p=0.5, max_tokens=100),
        ModelSettings(tool_choice="none", truncation="auto", store=False, metadata={"course": "robots"}),
        ModelSettings(reasoning=Reasoning(effort="low", summary="auto"), verbosity="low"),
        ModelSettings(top_logprobs=2, prompt_cache_retention="24h"),
        ModelSettings(response_include=["reasoning.encrypted_content"]),
        ModelSettings(extra_args={"service_tier": "flex", "prompt_cache_key": "course"}),
        ModelSettings(extra_body={"vendor": {"seed": 1}}, temperature=1),
    ]
}


class TestTheRequest:
    @pytest.mark.parametrize("changed", REQUESTS.values(), ids=REQUESTS)
    async def test_it_is_the_one_that_the_sdks_model_makes(self, changed: dict[str, Any]):
        with FakeModelServer() as server:
            async with both(server.base_url) as (ours, theirs):
                await typed(ours, **changed)
                await typed(theirs, **changed)

        got, expected = server.requests
        assert got == expected

    async def test_headers_and_query_of_the_settings_are_sent_and_the_key_is_in_no_body(self, wire: Wire):
        wire.replies = [said(answer("A"))]
        settings = ModelSettings(extra_headers={"X-Course": "robots"}, extra_query={"api-version": "2"})

        async with client(wire.url) as model:
            await typed(model, model_settings=settings)

        assert wire.heads[0].startswith("POST /v1/responses?api-version=2 HTTP/1.1")
        assert "X-Course: robots" in wire.heads[0]
        assert f"Authorization: Bearer {KEY}" in wire.heads[0]
        assert KEY not in json.dumps(wire.bodies)

    @pytest.mark.parametrize("end", ["end", "late"])
    async def test_answers_one_after_the_other_share_a_connection(self, wire: Wire, end: Literal["end", "late"]):
        wire.replies = [said(answer("A"), end=end)]

        async with client(wire.url) as model:
            for _ in range(3):
                await raw(model)

        assert (wire.connections, len(wire.bodies)) == (1, 3)

    async def test_a_closed_model_opens_itself_again(self, wire: Wire):
        wire.replies = [said(answer("A"))]

        async with client(wire.url) as model:
            await raw(model)
            await model.close()
            assert text_of(await raw(model)) == "A"

        assert wire.connections == 2


LINE_ENDS = [b"\n", b"\r\n", b"\r"]


class TestReadingEvents:
    @given(
        texts=st.lists(st.text(), min_size=1),
        line_end=st.sampled_from(LINE_ENDS),
        mark=st.booleans(),
        cuts=st.lists(st.integers(min_value=0, max_value=2000)),
    )
    def test_pieces_may_end_anywhere(self, texts: list[str], line_end: bytes, *, mark: bool, cuts: list[int]):
        lines: list[bytes] = []
        for text in texts:
            data = json.dumps(text, ensure_ascii=False).encode(errors="replace")
            lines += [b"data:" + data, b"event: message", b": a comment", b"retry: 3", b"unknown", b""]
        stream = (b"\xef\xbb\xbf" if mark else b"") + b"".join(line + line_end for line in lines)
        reader = EventReader(limit=100_000)

        ends = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
        read = [data for start, end in pairwise(ends) for data in reader.feed(stream[start:end])]

        assert [json.loads(data) for data in read] == [text.encode(errors="replace").decode() for text in texts]

    @given(line_end=st.sampled_from(LINE_ENDS))
    def test_byte_by_byte_is_the_same_as_at_once(self, line_end: bytes):
        stream = line_end.join([b"data: 1", b"", b"data: [2,", b"data:3]", b"", b"", b"data: 4", b"", b""])
        slow, fast = EventReader(limit=100), EventReader(limit=100)

        one_by_one = [data for byte in stream for data in slow.feed(bytes([byte]))]

        assert one_by_one == list(fast.feed(stream))
        assert [json.loads(data) for data in one_by_one] == [1, [2, 3], 4]

    def test_an_unfinished_event_is_none(self):
        assert list(EventReader(limit=100).feed(b"data: 1\n\ndata: 2\n")) == [b" 1"]

    @pytest.mark.parametrize("stream", [b"data:" + b"x" * 99, b"data:" + b"x" * 99 + b"\n\n", b"data:1\n" * 17])
    def test_an_event_over_the_limit_is_refused_however_it_comes(self, stream: bytes):
        for size in (1, 7, len(stream)):
            reader = EventReader(limit=100)
            pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
            with pytest.raises(ResponseFailed):
                [list(reader.feed(piece)) for piece in pieces]

    @pytest.mark.parametrize("size", [1, 3, 1000])
    async def test_the_wire_may_cut_characters_and_events(self, wire: Wire, size: int):
        wire.replies = [said(answer("Grüße 😀", " 你好"), chunk=size)]

        async with client(wire.url) as model:
            assert text_of(await raw(model)) == "Grüße 😀 你好"


ERROR_EVENT = {"type": "error", "code": "server_error", "message": f"broken for {KEY}", "param": None}


def failed(code: str) -> Event:
    error = {"code": code, "message": "words of the server"}
    return {"type": "response.failed", "response": response("failed", error=error)}


def incomplete(reason: str) -> Event:
    return {"type": "response.incomplete", "response": response("incomplete", incomplete_details={"reason": reason})}


def refused(status: int, code: str | None = None) -> Reply:
    error = {"error": {"message": f"Incorrect: {KEY}", "type": "test", "code": code}}
    return Reply(status=status, pieces=[json.dumps(error).encode()])


SAID = answer("Hel", "lo")[:6]
FAILURES: dict[str, tuple[Reply, FailureReason]] = {
    "401": (refused(401, "invalid_api_key"), FailureReason.AUTH),
    "403": (refused(403), FailureReason.AUTH),
    "404": (refused(404, "model_not_found"), FailureReason.REFUSED),
    "a redirect": (Reply(status=307, headers={"Location": "http://127.0.0.1:1/"}), FailureReason.REFUSED),
    "429": (refused(429, "rate_limit_exceeded"), FailureReason.RATE_LIMITED),
    "429 for the quota": (refused(429, "insufficient_quota"), FailureReason.QUOTA),
    "context": (refused(400, "context_length_exceeded"), FailureReason.TOO_LONG),
    "content filter": (refused(400, "content_filter"), FailureReason.REFUSED),
    "400": (refused(400), FailureReason.REFUSED),
    "500": (refused(500), FailureReason.UNAVAILABLE),
    "503 in HTML": (Reply(status=503, pieces=[b"<h1>\xff</h1>"]), FailureReason.UNAVAILABLE),
    "503 without a body": (Reply(status=503, end="cut"), FailureReason.UNAVAILABLE),
    "cut at once": (Reply(end="cut"), FailureReason.UNAVAILABLE),
    "cut": (said(SAID, end="cut"), FailureReason.UNAVAILABLE),
    "ended early": (said(SAID), FailureReason.UNAVAILABLE),
    "ended with [DONE]": (
        Reply(pieces=[*map(frame, SAID), b"data: [DONE]\n\n"], end="hold"),
        FailureReason.UNAVAILABLE,
    ),
    "ended within an event": (Reply(pieces=[*map(frame, SAID), b"data: {"]), FailureReason.UNAVAILABLE),
    "bad JSON": (Reply(pieces=[*map(frame, SAID), b"data: {oops\n\n"]), FailureReason.MALFORMED),
    "bad UTF-8": (Reply(pieces=[*map(frame, SAID), b'data: {"type":"\xff"}\n\n']), FailureReason.MALFORMED),
    "not an object": (Reply(pieces=[*map(frame, SAID), b"data: [1]\n\n"]), FailureReason.MALFORMED),
    "a delta that is no text": (said([*SAID, {**delta(""), "delta": None}]), FailureReason.MALFORMED),
    "no response": (said([*SAID, {"type": "response.completed", "response": None}]), FailureReason.MALFORMED),
    "broken framing": (said(SAID, end="garbage"), FailureReason.UNAVAILABLE),
    "not what its header says": (
        Reply(pieces=[*map(frame, SAID), b"x"], headers={"Content-Encoding": "gzip"}),
        FailureReason.UNAVAILABLE,
    ),
    "error event": (said([*SAID, ERROR_EVENT]), FailureReason.UNAVAILABLE),
    "error without a type": (said([{"type": None, "error": {"code": "server_error"}}]), FailureReason.UNAVAILABLE),
    "failed": (said([*SAID, failed("server_error")]), FailureReason.UNAVAILABLE),
    "failed for the rate": (said([*SAID, failed("rate_limit_exceeded")]), FailureReason.RATE_LIMITED),
    "out of tokens": (said([*SAID, incomplete("max_output_tokens")]), FailureReason.INCOMPLETE),
    "filtered": (said([*SAID, incomplete("content_filter")]), FailureReason.REFUSED),
    "a delta of 10 MB": (said([*SAID, delta("x" * 10_000_000)]), FailureReason.MALFORMED),
}


class TestFailures:
    @pytest.mark.parametrize(("reply", "reason"), FAILURES.values(), ids=FAILURES)
    async def test_each_has_its_reason_and_none_tells_the_key(self, wire: Wire, reply: Reply, reason: FailureReason):
        wire.replies = [reply]

        async with client(wire.url) as model:
            failed = await failure_of(model)

        assert failed.reason == reason
        assert KEY not in f"{failed} {failed.__cause__}"
        assert "words of the server" not in str(failed)
        assert len(wire.bodies) == 1

    @pytest.mark.parametrize("name", ["cut", "ended early", "bad JSON", "failed", "out of tokens"])
    async def test_the_text_before_one_is_not_lost(self, wire: Wire, name: str):
        wire.replies = [FAILURES[name][0]]
        seen: list[Event] = []

        async with client(wire.url) as model:
            await failure_of(model, seen)

        assert text_of(seen) == "Hello"

    async def test_a_server_that_is_not_there_is_unavailable(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with client(f"http://127.0.0.1:{taken.getsockname()[1]}/v1") as model:
                failed = await failure_of(model)

        assert failed.reason == FailureReason.UNAVAILABLE
        assert failed.__cause__ is not None

    @pytest.mark.parametrize(
        ("reply", "options"),
        [
            (Reply(pieces=[frame(CREATED)], end="hold"), ResponsesOptions(first_token_seconds=0.1)),
            (Reply(pieces=[frame(CREATED)], end="repeat"), ResponsesOptions(first_token_seconds=0.1)),
            (said(SAID, end="hold"), ResponsesOptions(idle_seconds=0.1)),
            (Reply(pieces=[*map(frame, SAID)], end="repeat"), ResponsesOptions(total_seconds=0.2)),
            (said(SAID, end="hold"), ResponsesOptions(total_seconds=0.1)),
        ],
        ids=["first token", "first token in spite of signs of life", "idle", "total", "total while idle"],
    )
    async def test_waiting_has_bounds(self, wire: Wire, reply: Reply, options: ResponsesOptions):
        wire.replies = [reply]

        async with asyncio.timeout(10), client(wire.url, options) as model:
            failed = await failure_of(model)

        assert failed.reason == FailureReason.TIMEOUT
        assert len(wire.bodies) == 1

    async def test_a_server_that_never_answers_runs_into_the_first_tokens_time(self):
        with _listening() as url:
            async with client(url, ResponsesOptions(first_token_seconds=0.1)) as model:
                failed = await failure_of(model)

        assert failed.reason == FailureReason.TIMEOUT

    async def test_a_slow_reader_is_not_the_servers_silence(self, wire: Wire):
        long = "x" * 1_000_000  # more than waits in the client's buffer
        wire.replies = [said(answer("Hello", long))]
        events: list[Event] = []

        async with client(wire.url, ResponsesOptions(idle_seconds=1.5)) as model:
            async for together in model.stream_raw(BODY):
                is_first = not events
                events.extend(together)
                if is_first:
                    await asyncio.sleep(1.8)  # the reader's own time, more than the server would be given

        assert text_of(events) == f"Hello{long}"

    async def test_what_follows_the_end_is_not_read(self, wire: Wire):
        whole = answer("A")
        wire.replies = [said([*whole, whole[-1], ERROR_EVENT])]

        async with client(wire.url) as model:
            assert await raw(model) == whole

    async def test_an_end_without_an_end_of_the_body_is_an_end(self, wire: Wire):
        wire.replies = [said(answer("A"), end="hold")]

        async with asyncio.timeout(5), client(wire.url) as model:
            assert text_of(await raw(model)) == "A"

        await asyncio.wait_for(wire.gone.wait(), 5)


AGAIN = ResponsesOptions(attempts=3, retry_wait_seconds=0.01)


class TestTryingAgain:
    @pytest.mark.parametrize(
        "reply",
        [
            refused(500),
            refused(429),
            Reply(end="cut"),
            Reply(pieces=[frame(CREATED)], end="cut"),
            said([CREATED, failed("server_error")]),
        ],
        ids=["500", "429", "cut before the first event", "cut before the first output", "failed before it"],
    )
    async def test_what_failed_before_any_output_is_asked_again(self, wire: Wire, reply: Reply):
        wire.replies = [reply, reply, said(answer("A"))]

        async with client(wire.url, AGAIN) as model:
            events = await raw(model)

        assert events == answer("A")
        assert len(wire.bodies) == 3

    async def test_it_is_given_up_after_the_last_attempt(self, wire: Wire):
        wire.replies = [refused(500)]

        async with client(wire.url, AGAIN) as model:
            failed = await failure_of(model)

        assert failed.reason == FailureReason.UNAVAILABLE
        assert len(wire.bodies) == 3

    @pytest.mark.parametrize("name", ["401", "429 for the quota", "context", "400", "cut", "failed", "bad JSON"])
    async def test_the_rest_is_not(self, wire: Wire, name: str):
        wire.replies = [FAILURES[name][0]]

        async with client(wire.url, AGAIN) as model:
            await failure_of(model)

        assert len(wire.bodies) == 1

    @pytest.mark.parametrize("value", ["0", "Mon, 01 Jan 2024 00:00:00 GMT"])
    async def test_the_servers_own_wait_is_taken(self, wire: Wire, value: str):
        wire.replies = [Reply(status=429, headers={"Retry-After": value}), said(answer("A"))]
        patient = ResponsesOptions(retry_wait_seconds=3600, retry_after_seconds=3600)

        async with asyncio.timeout(5), client(wire.url, patient) as model:
            assert text_of(await raw(model)) == "A"

    async def test_a_wait_that_is_too_long_is_not(self, wire: Wire):
        wire.replies = [Reply(status=429, headers={"Retry-After": "3600"})]

        async with asyncio.timeout(5), client(wire.url, AGAIN) as model:
            failed = await failure_of(model)

        assert (failed.reason, failed.retry_after) == (FailureReason.RATE_LIMITED, 3600)

    async def test_a_conversation_that_the_server_keeps_is_not_asked_twice(self, wire: Wire):
        wire.replies = [refused(500)]

        async with client(wire.url, AGAIN) as model:
            with pytest.raises(ResponseFailed):
                await typed(model, conversation_id="conv_1")

        assert len(wire.bodies) == 1


class TestStopping:
    @pytest.mark.parametrize("door", ["raw", "typed"])
    async def test_closing_the_iterator_closes_the_connection(self, wire: Wire, door: str):
        wire.replies = [said(SAID, end="hold")]

        async with client(wire.url) as model:
            events = model.stream_raw(BODY) if door == "raw" else model.stream_response(**arguments())
            async with aclosing(events):
                await anext(events)
            await asyncio.wait_for(wire.gone.wait(), 5)

    @pytest.mark.parametrize("events", [SAID, [CREATED]], ids=["while it answers", "before it does"])
    async def test_cancelling_closes_the_connection(self, wire: Wire, events: list[Event]):
        wire.replies = [said(events, end="hold")]

        async with client(wire.url) as model:
            reading = asyncio.ensure_future(raw(model))
            while not wire.bodies:
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.wait_for(wire.gone.wait(), 5)

    async def test_a_run_of_the_sdk_that_is_cancelled_closes_it_too(self, wire: Wire):
        wire.replies = [said(SAID, end="hold")]

        async with client(wire.url) as model:
            agent = Agent(name="A", model=model)
            run = Runner.run_streamed(agent, "Hello?", run_config=RunConfig(tracing_disabled=True))
            async for event in run.stream_events():
                if event.type == "raw_response_event":
                    run.cancel(mode="immediate")
            await asyncio.wait_for(wire.gone.wait(), 5)


class TestReplaying:
    async def test_the_runner_goes_on_from_a_response_that_is_there(self, wire: Wire):
        wire.replies = [said(answer("It is a process."))]
        completed: Any = typed_event(tool_calls("nodes")[-1])

        async with client(wire.url) as model:
            agent = Agent(name="A", model=ReplayModel(completed, model), tools=[search_course])
            run = Runner.run_streamed(agent, "What is a node?", run_config=RunConfig(tracing_disabled=True))
            seen = [event.data.type async for event in run.stream_events() if event.type == "raw_response_event"]

        [asked] = wire.bodies
        assert [item.get("type", "message") for item in asked["input"]] == [
            "message",
            "reasoning",
            "function_call",
            "function_call_output",
        ]
        assert asked["input"][-1]["output"] == "nodes 5"
        assert seen == ["response.completed", *(event["type"] for event in answer("It is a process."))]
        assert run.final_output == "It is a process."
        assert run.context_wrapper.usage.requests == 2

    async def test_it_does_so_without_streaming(self, wire: Wire):
        wire.replies = [said(answer("It is a process."))]
        completed: Any = typed_event(tool_calls("nodes")[-1])

        async with client(wire.url) as model:
            agent = Agent(name="A", model=ReplayModel(completed, model), tools=[search_course])
            result = await Runner.run(agent, "What is a node?", run_config=RunConfig(tracing_disabled=True))

        assert result.final_output == "It is a process."
        assert len(wire.bodies) == 1


@contextmanager
def _listening() -> Iterator[str]:
    """A port that takes connections, and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
