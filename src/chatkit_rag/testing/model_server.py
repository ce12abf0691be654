"""`FakeModelServer`: OpenAI's interfaces over real HTTP, with answers that a test writes and faults that it asks for.

Not a model, and not a mock: the client's own connection, serialisation and stream parsing run against it.

    POST /v1/responses          answers, streamed or not      responses_wording
    POST /v1/chat/completions   the same answers              chat_wording
    POST /v1/embeddings         vectors out of hashed words   embeddings
    POST /v1/rerank             how near the vectors are      reranking
    POST /v2/embed, /v2/rerank  the same, in Cohere's words   reranking
    GET  /v1/models
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web

from chatkit_rag.testing.chat_wording import ChatWording
from chatkit_rag.testing.embeddings import embeddings
from chatkit_rag.testing.faults import HUGE, Fault, FaultKind, error_body
from chatkit_rag.testing.reranking import cohere_embeddings, reranked
from chatkit_rag.testing.responses_wording import ResponsesWording
from chatkit_rag.testing.wording import Ending, ToolCall, Wording, most_tokens

_START_SECONDS = 10.0
_STOP_SECONDS = 0.05
"""For requests under way when the server stops; then they are cut."""


@dataclass(slots=True)
class FakeModelServer:
    """A model server on a loopback port, in a thread of its own; a context manager.

    Set `answer` and the rest before or between requests; read `requests`, `fired` and `sent` afterwards. Leaving it
    cuts the requests that are under way, silent ones too.
    """

    answer: str = "Yes [1]."
    """What the model says."""
    script: list[str | ToolCall] = field(default_factory=list[str | ToolCall])
    """What it says to the next requests instead, one each, and then no more."""
    reply: Callable[[dict[str, Any]], str | ToolCall] | None = None
    """Makes what it says of a request's body, in place of `answer`; called in the server's own thread."""
    fault: Fault | None = None
    """What goes wrong. A request that is refused or met with silence takes nothing from the script."""
    piece: int = 4
    """Characters in one delta, and in one token: an answer ends, incomplete, at the limit that its request has."""
    pause: float = 0.0
    """Seconds before each delta."""
    dimensions: int = 256
    """Of embeddings, where a request names no number."""
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The bodies of the requests for answers."""
    embedding_requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The bodies of the requests for embeddings."""
    rerank_requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The bodies of the requests to rerank."""
    sent: int = 0
    """Deltas that were sent, over all requests."""
    fired: Counter[FaultKind] = field(default_factory=Counter[FaultKind])
    """How often each fault has happened."""
    disconnects: int = 0
    """Requests whose client left before the end."""
    _running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
    _runner: web.AppRunner | None = None
    _thread: threading.Thread | None = None
    _port: int = 0

    @property
    def base_url(self) -> str:
        """What to give a client as the interface's address."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def connections(self) -> int:
        """How many connections of clients are open now."""
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    def __enter__(self) -> Self:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self._port = listening.getsockname()[1]
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, started)), name="fake model server", daemon=True
        )
        self._thread.start()
        self._running = started.result(_START_SECONDS)
        return self

    def __exit__(self, *_exc: object) -> None:
        running, self._running = self._running, None
        if running is not None and self._thread is not None:
            loop, stop = running
            loop.call_soon_threadsafe(stop.set)
            self._thread.join()

    async def _serve(
        self, listening: socket.socket, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
    ) -> None:
        stop = asyncio.Event()

        @web.middleware
        async def counting(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                return await handler(request)
            except (asyncio.CancelledError, ConnectionError) as exc:
                if not stop.is_set():
                    self.disconnects += 1
                # Writing to a client that is gone is nothing that aiohttp should log.
                raise asyncio.CancelledError from exc

        app = web.Application(middlewares=[counting], client_max_size=0)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v2/embed", self._embeddings)
        app.router.add_post("/v1/rerank", self._rerank)
        app.router.add_post("/v2/rerank", self._rerank)
        app.router.add_get("/v1/models", self._models)
        runner = self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_SECONDS
        )
        await runner.setup()
        await web.SockSite(runner, listening).start()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await runner.cleanup()

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, ResponsesWording)

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, ChatWording)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.embedding_requests.append(body)
        if fault := self._take_fault():
            return await self._fail(fault, request)
        words = cohere_embeddings if request.path == "/v2/embed" else embeddings
        answer = words(body, self.dimensions)
        if answer is None:
            return _json(error_body("'input' holds no text.", "invalid_request_error"), 400)
        return _json(answer)

    async def _rerank(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.rerank_requests.append(body)
        if fault := self._take_fault():
            return await self._fail(fault, request)
        return _json(reranked(body, self.dimensions))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if fault := self._take_fault():
            return await self._fail(fault, request)
        model = {"id": "fake", "object": "model", "created": 0, "owned_by": "test"}
        return _json({"object": "list", "data": [model]})

    async def _answer(
        self, request: web.Request, words: Callable[[str | ToolCall, int, dict[str, Any]], Wording]
    ) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.requests.append(body)
        number = len(self.requests)
        streams = body.get("stream") is True
        fault = self._take_fault(answer=True, streams=streams)
        if fault is not None and (fault.refuses or fault.kind == "silent"):
            return await self._fail(fault, request)
        wording = words(self._say(body), number, body)
        most = most_tokens(body) * self.piece
        ending: Ending = "completed" if len(wording.content) <= most else "incomplete"
        wording.content = wording.content[:most]
        if streams:
            return await self._stream(request, wording, ending, fault)
        if fault is None:
            return _json(wording.whole(ending))
        if fault.kind == "incomplete" or fault.kind == "failed":  # noqa: PLR1714 - pyright narrows this form
            self.fired[fault.kind] += 1
            return _json(wording.whole(fault.kind))
        return await self._fail(fault, request)

    def _say(self, body: dict[str, Any]) -> str | ToolCall:
        if self.script:
            return self.script.pop(0)
        return self.answer if self.reply is None else self.reply(body)

    async def _stream(
        self, request: web.Request, wording: Wording, ending: Ending, fault: Fault | None
    ) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await stream.prepare(request)
        await stream.write(wording.opening())
        starts = range(0, len(wording.content), self.piece)
        strikes_at = fault.strikes_at(len(starts)) if fault else None
        for count in range(len(starts) + 1):
            if fault and count == strikes_at and await self._strike(fault, request, stream, wording):
                return stream
            if count < len(starts):
                await asyncio.sleep(self.pause)
                self.sent += 1
                await stream.write(wording.delta(wording.content[starts[count] : starts[count] + self.piece]))
        await stream.write(wording.ending(ending))
        return stream

    async def _strike(self, fault: Fault, request: web.Request, stream: web.StreamResponse, wording: Wording) -> bool:
        """Lets the fault happen in the middle of the stream; returns whether that was the end of it."""
        self.fired[fault.kind] += 1
        match fault.kind:
            case "cut":
                _close(request)
            case "stalls":
                await _forever()
            case "error_event":
                await stream.write(wording.error())
            case "incomplete" | "failed":
                await stream.write(wording.ending(fault.kind))
            case "ends_twice":
                await stream.write(wording.ending("completed") + wording.complete_again())
            case "malformed":
                await stream.write(b'data: {"type": "response.output_text.delta", "delta": \n\n')
                return False
            case "huge_delta":
                self.sent += 1
                await stream.write(wording.delta("x" * HUGE))
                return False
            case _:
                pass  # `ends_early`: that was it
        return True

    async def _fail(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        """The fault in place of an answer that is no stream."""
        self.fired[fault.kind] += 1
        if fault.refuses:
            status, body, headers = fault.refusal(request.headers.get("Authorization", "").removeprefix("Bearer "))
            return _json(body, status, headers)
        if fault.kind == "silent":
            await _forever()
        if fault.kind == "cut":
            _close(request)
        return web.Response(body=b'{"id": ', content_type="application/json")

    def _take_fault(self, *, answer: bool = False, streams: bool = False) -> Fault | None:
        fault = self.fault
        if fault is None or not fault.concerns(answer=answer, streams=streams):
            return None
        self.fault = fault.rest()
        return fault


async def _forever() -> None:
    """Until the client leaves, or the server stops."""
    await asyncio.Event().wait()


def _close(request: web.Request) -> None:
    """Closes the connection, behind what was written."""
    if request.transport is not None:
        request.transport.close()


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
