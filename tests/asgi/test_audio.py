"""Bodies with audio may be large: where the server transcribes, where they say so, and where it is true."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from chatkit.types import AudioInput, TranscriptionResult
from starlette.requests import Request

from chatkit_rag.asgi import limits
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.limits import AUDIO_BODY_BYTES, BODY_BYTES, read_json_body
from chatkit_rag.auth import nobody
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import message, refusal, request

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
TEN_MEGABYTES = 10 * 1024 * 1024
CHUNK = 64 * 1024


class Transcribing(RagChatServer):
    """Says how many bytes of audio it got."""

    async def transcribe(self, audio_input: AudioInput, context: Any) -> TranscriptionResult:
        return TranscriptionResult(text=str(len(audio_input.data)))


@pytest.fixture
async def http(course_index_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    server = Transcribing(MemoryStore(), sources=[CourseSource(EdgeIndex(course_index_path))], model="extractive")
    async with client_of(server) as client:
        yield client


def client_of(server: RagChatServer, **options: Any) -> httpx.AsyncClient:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True, **options))
    return httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://localhost")


def audio(size: int, **fields: Any) -> bytes:
    """A request to transcribe `size` bytes."""
    encoded = b64encode(bytes(size)).decode()
    return orjson.dumps({**request("input.transcribe", audio_base64=encoded, mime_type="audio/webm"), **fields})


class Sent:
    """A body in pieces, without its length; knows how much of it was read."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), CHUNK):
            piece = self._content[start : start + CHUNK]
            self.read += len(piece)
            yield piece


@pytest.mark.parametrize("size", [3, BODY_BYTES, TEN_MEGABYTES])
async def test_ten_megabytes_are_transcribed(http: httpx.AsyncClient, size: int):
    answer = await http.post("/", content=audio(size), headers=JSON)

    assert answer.json() == {"text": str(size)}


async def test_one_byte_more_is_not(http: httpx.AsyncClient):
    refused = await http.post("/", content=audio(TEN_MEGABYTES + 1), headers=JSON)

    assert refusal(refused, 413)["details"] == {"limit_bytes": TEN_MEGABYTES}


async def test_no_more_than_that_is_read_nor_anything_where_the_length_is_told(http: httpx.AsyncClient):
    untold, told = Sent(audio(2 * TEN_MEGABYTES)), Sent(audio(2 * TEN_MEGABYTES))

    refused = [
        await http.post("/", content=untold, headers=JSON),
        await http.post("/", content=told, headers={**JSON, "Content-Length": str(AUDIO_BODY_BYTES + 1)}),
    ]

    assert [refusal(answer, 413)["details"]["limit_bytes"] for answer in refused] == [AUDIO_BODY_BYTES] * 2
    assert AUDIO_BODY_BYTES < untold.read <= AUDIO_BODY_BYTES + 2 * CHUNK
    assert told.read == 0


SAYING = '"type":"input.transcribe"'
FILLING = "x" * 14_000_000


@pytest.mark.parametrize(
    "body",
    [
        request("threads.create", input=message(f"{SAYING} {FILLING}")),
        request("threads.create", input=message(FILLING)) | {"metadata": {"input.transcribe": SAYING}},
        request("threads.list", filling=FILLING),
        [SAYING, FILLING],
    ],
    ids=["a message that says it", "metadata that says it", "another operation", "no operation"],
)
async def test_a_large_body_of_another_type_is_read_up_to_the_general_limit(http: httpx.AsyncClient, body: Any):
    sent = Sent(orjson.dumps(body))

    refused = await http.post("/", content=sent, headers=JSON)

    assert refusal(refused, 413)["details"] == {"limit_bytes": BODY_BYTES}
    assert BODY_BYTES < sent.read <= BODY_BYTES + 2 * CHUNK


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"type":"input.transcribe"},"type":"threads.list","params":{"filling":"FILLING"}}',
        b'{"type":"input.transcribe","params":{"filling":"FILLING"},"type":"threads.list"}',
        b'{"type":"input.transcribe","params":{"filling":"FILLING"}',
        b'[{"type":"input.transcribe"},"FILLING"]',
    ],
    ids=["within metadata", "and then otherwise", "not JSON", "no object"],
)
async def test_a_large_body_that_only_pretends_is_refused_once_it_is_read(http: httpx.AsyncClient, body: bytes):
    refused = await http.post("/", content=body.replace(b"FILLING", FILLING.encode()[:1_000_000]), headers=JSON)

    assert refusal(refused, 413)["details"] == {"limit_bytes": BODY_BYTES}


async def test_what_says_it_too_late_is_refused(http: httpx.AsyncClient):
    document = orjson.loads(audio(2 * BODY_BYTES))
    late = orjson.dumps({"params": document["params"], "type": document["type"]})

    assert refusal(await http.post("/", content=late, headers=JSON), 413)["details"] == {"limit_bytes": BODY_BYTES}


async def test_space_around_the_colon_is_no_pretence(http: httpx.AsyncClient):
    spaced = audio(BODY_BYTES).replace(b'"type":"input', b'"type" : \n"input')

    assert (await http.post("/", content=spaced, headers=JSON)).json() == {"text": str(BODY_BYTES)}


async def test_a_large_body_without_audio_in_it_is_refused_by_its_operation(http: httpx.AsyncClient):
    for params in ({"filling": "x" * BODY_BYTES}, {"audio_base64": [0] * BODY_BYTES}, ["x" * BODY_BYTES]):
        body = orjson.dumps({"type": "input.transcribe", "params": params})

        assert refusal(await http.post("/", content=body, headers=JSON), 422)["code"] == "invalid_request"


async def test_a_server_that_does_not_transcribe_takes_no_large_bodies(server: RagChatServer):
    async with client_of(server) as http:
        sent = Sent(audio(TEN_MEGABYTES))

        refused = await http.post("/", content=sent, headers=JSON)

    assert refusal(refused, 413)["details"] == {"limit_bytes": BODY_BYTES}
    assert sent.read <= BODY_BYTES + 2 * CHUNK


async def test_a_site_may_take_less(course_index_path: Path):
    server = Transcribing(MemoryStore(), sources=[CourseSource(EdgeIndex(course_index_path))], model="extractive")
    async with client_of(server, audio_body_bytes=600_000) as http:
        assert (await http.post("/", content=audio(400_000), headers=JSON)).status_code == 200
        refusal(await http.post("/", content=audio(600_000), headers=JSON), 413)


class TestSlowAudio:
    """Pieces that come while time goes by, as the body's reader sees it."""

    async def read(self, monkeypatch: pytest.MonkeyPatch, *, rate: float, within: float, pieces: int) -> bytes:
        """Reads `pieces` of 64 KiB after the beginning; each takes a hundredth of a second."""
        monkeypatch.setattr(limits, "_AUDIO_RATE", rate)
        messages = [b'{"type":"input.transcribe"' + b" " * BODY_BYTES, *[b" " * CHUNK] * pieces]

        async def receive() -> Any:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": messages.pop(0), "more_body": bool(messages)}

        slow = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
        return await read_json_body(slow, audio_limit=AUDIO_BODY_BYTES, within=within)

    async def test_it_may_take_longer_than_other_bodies_while_it_keeps_coming(self, monkeypatch: pytest.MonkeyPatch):
        body = await self.read(monkeypatch, rate=CHUNK, within=0.2, pieces=50)

        assert len(body) > 50 * CHUNK

    async def test_it_is_given_up_where_it_comes_too_slowly(self, monkeypatch: pytest.MonkeyPatch):
        with pytest.raises(InvalidRequest):
            await self.read(monkeypatch, rate=1000 * CHUNK, within=0.2, pieces=50)
