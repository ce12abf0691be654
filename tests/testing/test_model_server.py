"""The fake model server, seen by OpenAI's own client."""

import asyncio
import base64
import math
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from openai import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
)

from asgi.serving import eventually
from chatkit_rag.testing import FakeModelServer, Fault, ToolCall
from chatkit_rag.testing.faults import HUGE

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"
QUESTION: Any = [{"role": "user", "content": "Hello?"}]
CALL = ToolCall("search_course", {"query": "nodes"})
INTERFACES = ["responses", "chat completions"]


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="Yes, it does.", piece=5) as model:
        yield model


@pytest.fixture
async def client(model: FakeModelServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=KEY, base_url=model.base_url, max_retries=0, timeout=30) as client:
        yield client


async def responses(client: AsyncOpenAI, **fields: Any) -> list[Any]:
    """The events of a streamed response."""
    events = await client.responses.create(model="fake", input=QUESTION, stream=True, **fields)
    return [event async for event in events]


async def completion(client: AsyncOpenAI, **fields: Any) -> list[Any]:
    """The chunks of a streamed completion."""
    chunks = await client.chat.completions.create(model="fake", messages=QUESTION, stream=True, **fields)
    return [chunk async for chunk in chunks]


async def read(client: AsyncOpenAI, interface: str, seen: list[str] | None = None) -> list[str]:
    """The deltas of an answer's text; those before a failure are in `seen`."""
    seen = [] if seen is None else seen
    if interface == "responses":
        async for event in await client.responses.create(model="fake", input=QUESTION, stream=True):
            seen += [event.delta] if event.type == "response.output_text.delta" else []
    else:
        async for chunk in await client.chat.completions.create(model="fake", messages=QUESTION, stream=True):
            seen += [choice.delta.content for choice in chunk.choices if choice.delta.content]
    return seen


async def ask(client: AsyncOpenAI, interface: str) -> Any:
    """One request that wants no stream, to any of the interfaces."""
    match interface:
        case "responses":
            return await client.responses.create(model="fake", input=QUESTION)
        case "chat completions":
            return await client.chat.completions.create(model="fake", messages=QUESTION)
        case "embeddings":
            return await client.embeddings.create(model="fake", input="Hello?")
        case _:
            return await client.models.list()


class TestResponses:
    async def test_a_stream_has_the_events_of_the_interface(self, client: AsyncOpenAI):
        events = await responses(client)

        assert [event.type for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * 3,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].response.output_text == "Yes, it does."

    async def test_without_a_stream_it_is_the_same_response(self, client: AsyncOpenAI):
        streamed = (await responses(client))[-1].response

        whole = await ask(client, "responses")

        assert whole.output_text == "Yes, it does."
        assert whole.model_dump(exclude={"id", "output"}) == streamed.model_dump(exclude={"id", "output"})

    async def test_a_tool_call_comes_in_pieces_and_as_a_whole(self, client: AsyncOpenAI, model: FakeModelServer):
        model.script = [CALL, CALL]

        events = await responses(client)
        [called] = (await ask(client, "responses")).output

        deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        [item] = events[-1].response.output
        assert "".join(deltas) == item.arguments == called.arguments == '{"query":"nodes"}'
        assert (item.type, item.name, called.name) == ("function_call", "search_course", "search_course")


class TestChatCompletions:
    async def test_a_stream_begins_with_the_role_and_ends_with_the_reason(self, client: AsyncOpenAI):
        first, *middle, last = await completion(client)

        assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
        assert [chunk.choices[0].delta.content for chunk in middle] == ["Yes, ", "it do", "es."]
        assert [chunk.choices[0].finish_reason for chunk in (first, *middle, last)] == [None] * 4 + ["stop"]
        assert {chunk.object for chunk in (first, *middle, last)} == {"chat.completion.chunk"}

    async def test_it_says_done_and_counts_where_that_is_asked_for(self, model: FakeModelServer):
        asked = {"model": "m", "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{model.base_url}/chat/completions", json=asked)

        *frames, counted, done, rest = answer.text.split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        assert '"choices":[]' in counted
        assert '"total_tokens":2' in counted
        assert all('"usage":null' in frame for frame in frames)

    async def test_without_a_stream_it_is_one_message(self, client: AsyncOpenAI):
        whole = await ask(client, "chat completions")

        [choice] = whole.choices
        assert (choice.message.content, choice.finish_reason, whole.usage.total_tokens) == ("Yes, it does.", "stop", 2)

    async def test_a_tool_call_comes_in_pieces_and_as_a_whole(self, client: AsyncOpenAI, model: FakeModelServer):
        model.script = [CALL, CALL]

        chunks = await completion(client)
        [called] = (await ask(client, "chat completions")).choices[0].message.tool_calls

        pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert (pieces[0].function.name, pieces[0].id) == ("search_course", "call_1")
        assert "".join(piece.function.arguments for piece in pieces) == called.function.arguments == '{"query":"nodes"}'
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


class TestTheScript:
    async def test_it_is_said_once_whatever_interface_asks_and_then_comes_the_answer(
        self, client: AsyncOpenAI, model: FakeModelServer
    ):
        model.script = ["First.", "Second."]

        said = ["".join(await read(client, interface)) for interface in ("responses", "chat completions", "responses")]

        assert said == ["First.", "Second.", "Yes, it does."]
        assert model.sent == 2 + 2 + 3
        assert [request.get("input", request.get("messages")) for request in model.requests] == [QUESTION] * 3


def cosine(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


class TestTheReply:
    async def test_it_is_made_of_each_request_behind_the_script(self, client: AsyncOpenAI, model: FakeModelServer):
        model.script = ["First."]
        model.reply = lambda body: CALL if "tools" in body else f"You asked: {body['input'][0]['content']}"

        said = [(await ask(client, "responses")).output_text for _ in range(2)]
        called = await client.responses.create(model="fake", input=QUESTION, tools=[])

        assert said == ["First.", "You asked: Hello?"]
        assert called.output[0].name == CALL.name


class TestTheLimit:
    """A request's own, in tokens: of pieces' length here."""

    @pytest.mark.parametrize(("tokens", "reason"), [(1, "max_output_tokens"), (2, "max_output_tokens"), (3, None)])
    async def test_a_response_ends_there(self, client: AsyncOpenAI, tokens: int, reason: str | None):
        events = await responses(client, max_output_tokens=tokens)
        whole = await client.responses.create(model="fake", input=QUESTION, max_output_tokens=tokens)

        last = events[-1].response
        assert whole.output_text == last.output_text == "Yes, it does."[: 5 * tokens]
        assert [one.incomplete_details and one.incomplete_details.reason for one in (last, whole)] == [reason, reason]

    @pytest.mark.parametrize("word", ["max_tokens", "max_completion_tokens"])
    async def test_a_completion_ends_there(self, client: AsyncOpenAI, word: str):
        limited: dict[str, Any] = {word: 1}
        chunks = await completion(client, **limited)
        whole = await client.chat.completions.create(model="fake", messages=QUESTION, **limited)

        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Yes, "
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
        assert whole.choices[0].message.content == "Yes, "


class TestEmbeddings:
    async def test_texts_that_share_words_are_near_each_other(self, client: AsyncOpenAI):
        texts = ["How do I create a node?", "To create a node, call create.", "Gravity pulls things down"]

        embedded = await client.embeddings.create(model="fake", input=texts)

        asked, answer, other = [item.embedding for item in embedded.data]
        assert cosine(asked, answer) > 0.5
        assert cosine(asked, other) < 0.1
        assert all(math.isclose(cosine(vector, vector), 1, abs_tol=1e-6) for vector in (asked, answer, other))

    async def test_the_same_text_has_the_same_vector_on_every_server(self, client: AsyncOpenAI):
        first = await client.embeddings.create(model="fake", input="one node")
        with FakeModelServer() as model:
            async with AsyncOpenAI(api_key=KEY, base_url=model.base_url) as another:
                second = await another.embeddings.create(model="fake", input=["one node"])

        assert first.data == second.data

    async def test_the_size_is_the_servers_or_the_requests(self, client: AsyncOpenAI, model: FakeModelServer):
        model.dimensions = 8

        usual = await client.embeddings.create(model="fake", input="one node")
        asked = await client.embeddings.create(model="fake", input="one node", dimensions=3)

        assert (len(usual.data[0].embedding), len(asked.data[0].embedding)) == (8, 3)

    async def test_base64_holds_the_same_floats(self, client: AsyncOpenAI):
        coded = await client.embeddings.create(model="fake", input="one node", encoding_format="base64")
        plain = await client.embeddings.create(model="fake", input="one node", encoding_format="float")

        packed: Any = coded.data[0].embedding
        unpacked = struct.unpack("<256f", base64.b64decode(packed))
        assert unpacked == pytest.approx(plain.data[0].embedding)

    @pytest.mark.parametrize("given", ["", [], ["one", ""], [1, 2]])
    async def test_what_is_no_text_is_refused(self, client: AsyncOpenAI, model: FakeModelServer, given: Any):
        with pytest.raises(BadRequestError):
            await client.embeddings.create(model="fake", input=given)

        assert model.embedding_requests[0]["input"] == given
        assert model.requests == []


async def test_the_models_are_listed(client: AsyncOpenAI):
    listed = await client.models.list()

    assert [model.id for model in listed.data] == ["fake"]


REFUSALS: dict[str, tuple[type[APIError], int, str | None]] = {
    "unauthorized": (AuthenticationError, 401, "invalid_api_key"),
    "rate_limited": (RateLimitError, 429, "rate_limit_exceeded"),
    "quota": (RateLimitError, 429, "insufficient_quota"),
    "bad_request": (BadRequestError, 400, None),
    "too_long": (BadRequestError, 400, "context_length_exceeded"),
    "server_error": (InternalServerError, 500, None),
    "overloaded": (InternalServerError, 503, None),
}


class TestFaultsEverywhere:
    @pytest.mark.parametrize("interface", [*INTERFACES, "embeddings", "models"])
    @pytest.mark.parametrize("kind", REFUSALS)
    async def test_a_refusal_is_the_error_that_openai_sends(
        self, client: AsyncOpenAI, model: FakeModelServer, interface: str, kind: Any
    ):
        model.fault = Fault(kind)
        error, status, code = REFUSALS[kind]

        with pytest.raises(error) as caught:
            await ask(client, interface)

        refused: Any = caught.value
        assert (refused.status_code, refused.code) == (status, code)
        assert refused.response.headers.get("retry-after") == ("1" if kind == "rate_limited" else None)
        assert (KEY in str(refused)) == (kind == "unauthorized")
        assert model.fired == {kind: 1}

    @pytest.mark.parametrize("interface", [*INTERFACES, "embeddings", "models"])
    async def test_silence_lasts_until_the_client_leaves(
        self, client: AsyncOpenAI, model: FakeModelServer, interface: str
    ):
        model.fault = Fault("silent")

        with pytest.raises(APITimeoutError):
            await ask(client.with_options(timeout=1.0), interface)

        await eventually(lambda: (model.disconnects, model.connections) == (1, 0))
        assert model.fired == {"silent": 1}

    @pytest.mark.parametrize("interface", [*INTERFACES, "embeddings", "models"])
    async def test_a_connection_is_cut_before_the_answer(
        self, client: AsyncOpenAI, model: FakeModelServer, interface: str
    ):
        model.fault = Fault("cut")

        with pytest.raises(APIConnectionError):
            await ask(client, interface)

        assert (model.fired, model.disconnects) == ({"cut": 1}, 0)

    @pytest.mark.parametrize("interface", [*INTERFACES, "embeddings", "models"])
    async def test_json_is_broken(self, client: AsyncOpenAI, model: FakeModelServer, interface: str):
        model.fault = Fault("malformed")

        with pytest.raises((APIError, ValueError)):
            await ask(client, interface)

        assert model.fired == {"malformed": 1}

    async def test_a_fault_is_for_as_many_requests_as_it_says(self, client: AsyncOpenAI, model: FakeModelServer):
        model.fault = Fault("overloaded", times=2)

        with pytest.raises(InternalServerError):
            await ask(client, "responses")
        with pytest.raises(InternalServerError):
            await ask(client, "embeddings")
        answer = await ask(client, "responses")

        assert answer.output_text == "Yes, it does."
        assert (model.fired, model.fault) == ({"overloaded": 2}, None)

    async def test_one_that_does_not_concern_a_request_waits_for_another(
        self, client: AsyncOpenAI, model: FakeModelServer
    ):
        model.fault = Fault("ends_early", times=1)

        await ask(client, "models")
        await ask(client, "responses")
        deltas = await read(client, "chat completions")

        assert deltas == ["Yes, ", "it do", "es."]
        assert model.fired == {"ends_early": 1}

    async def test_a_refused_request_takes_nothing_from_the_script(self, client: AsyncOpenAI, model: FakeModelServer):
        model.fault, model.script = Fault("overloaded", times=1), ["First."]

        with pytest.raises(InternalServerError):
            await read(client, "responses")

        assert await read(client, "responses") == ["First", "."]


class TestFaultsOfStreams:
    @pytest.mark.parametrize("interface", INTERFACES)
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("cut", APIConnectionError),
            ("malformed", ValueError),
            ("error_event", APIError),
            ("stalls", APITimeoutError),
        ],
    )
    async def test_it_strikes_behind_as_many_deltas_as_it_says(
        self, client: AsyncOpenAI, model: FakeModelServer, interface: str, kind: Any, error: type[Exception]
    ):
        model.fault, seen = Fault(kind, after=2), []

        if (interface, kind) == ("responses", "error_event"):
            await read(client, interface, seen)  # OpenAI's client hands the event on
        else:
            with pytest.raises(error):
                await read(client.with_options(timeout=1.5), interface, seen)

        assert "".join(seen) == "Yes, it do"
        assert model.fired == {kind: 1}

    @pytest.mark.parametrize("interface", INTERFACES)
    async def test_a_delta_is_huge(self, client: AsyncOpenAI, model: FakeModelServer, interface: str):
        model.fault = Fault("huge_delta", after=1)

        deltas = await read(client, interface)

        assert [len(delta) for delta in deltas] == [5, HUGE, 5, 3]
        assert (model.fired, model.sent) == ({"huge_delta": 1}, 4)

    async def test_one_behind_the_end_of_the_answer_never_strikes(self, client: AsyncOpenAI, model: FakeModelServer):
        model.fault = Fault("cut", after=4)

        deltas = await read(client, "responses")

        assert deltas == ["Yes, ", "it do", "es."]
        assert model.fired == {}

    @pytest.mark.parametrize(
        ("kind", "endings"),
        [
            ("incomplete", ["response.incomplete"]),
            ("failed", ["response.failed"]),
            ("error_event", ["error"]),
            ("ends_early", []),
            ("ends_twice", ["response.completed"] * 2),
        ],
    )
    async def test_a_response_ends_otherwise(
        self, client: AsyncOpenAI, model: FakeModelServer, kind: Any, endings: list[str]
    ):
        model.fault = Fault(kind)

        events = await responses(client)

        terminal = ("response.completed", "response.incomplete", "response.failed", "error")
        assert [event.type for event in events if event.type in terminal] == endings
        assert model.fired == {kind: 1}

    @pytest.mark.parametrize(("kind", "reasons"), [("incomplete", ["length"]), ("ends_early", [])])
    async def test_a_completion_ends_otherwise(
        self, client: AsyncOpenAI, model: FakeModelServer, kind: Any, reasons: list[str]
    ):
        model.fault = Fault(kind)

        chunks = await completion(client)

        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == reasons
        assert model.fired == {kind: 1}

    async def test_a_completion_says_twice_that_it_is_done(self, model: FakeModelServer):
        model.fault = Fault("ends_twice")
        asked = {"model": "m", "messages": QUESTION, "stream": True}

        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{model.base_url}/chat/completions", json=asked)

        assert (answer.text.count('"stop"'), answer.text.count("[DONE]")) == (2, 2)

    @pytest.mark.parametrize("kind", ["incomplete", "failed"])
    async def test_the_whole_ends_otherwise_too(self, client: AsyncOpenAI, model: FakeModelServer, kind: Any):
        model.fault = Fault(kind)

        response = await ask(client, "responses")
        chat = await ask(client, "chat completions")

        assert response.status == kind
        assert [choice.finish_reason for choice in chat.choices or ()] == (["length"] if kind == "incomplete" else [])
        assert model.fired == {kind: 2}


class TestLeaving:
    @pytest.mark.parametrize("fault", [Fault("silent"), Fault("stalls", after=1)], ids=lambda fault: fault.kind)
    async def test_nothing_is_left_running_while_a_request_is_silent(self, fault: Fault):
        with FakeModelServer(fault=fault) as model:
            async with AsyncOpenAI(api_key=KEY, base_url=model.base_url, max_retries=0) as client:
                asking = asyncio.ensure_future(read(client, "responses"))
                await eventually(lambda: model.fired[fault.kind] == 1)

                assert "fake model server" in [thread.name for thread in threading.enumerate()]
                begun = time.monotonic()
                await asyncio.to_thread(model.__exit__)
                took = time.monotonic() - begun

                with pytest.raises(APIConnectionError):
                    await asking
        assert took < 2
        assert "fake model server" not in [thread.name for thread in threading.enumerate()]
        assert (model.connections, model.disconnects) == (0, 0)

    async def test_a_client_that_leaves_is_counted_and_stops_the_deltas(self, model: FakeModelServer):
        model.answer, model.pause = "word " * 1000, 0.01
        async with AsyncOpenAI(api_key=KEY, base_url=model.base_url) as client:
            stream = await client.responses.create(model="fake", input=QUESTION, stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break

            await stream.close()

            await eventually(lambda: model.disconnects == 1)
            assert model.sent < 1000

    def test_it_can_be_left_twice(self):
        with FakeModelServer() as model:
            model.__exit__()

        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{model.base_url}/models")
