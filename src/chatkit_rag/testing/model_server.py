"""`FakeModelServer`: OpenAI's Responses interface over real HTTP, with answers that a test writes.

Not a model, and not a mock: the client's own connection, serialisation and stream parsing run against it.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool instead of answering."""

    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class FakeModelServer:
    """A model server on a loopback port, in a thread of its own; a context manager.

    Set `answer` and the rest before or between requests; read `requests` and `sent` afterwards.
    """

    answer: str = "Yes [1]."
    """What the model says."""
    script: list[str | ToolCall] = field(default_factory=list[str | ToolCall])
    """What it says to the next requests instead, one each, and then no more."""
    ending: Literal["completed", "incomplete", "failed"] = "completed"
    """How a response ends: `incomplete` is what the interface says when the model ran out of tokens."""
    piece: int = 4
    """Characters in one delta."""
    pause: float = 0.0
    """Seconds before each delta."""
    status: int = 200
    """Anything else: requests are refused with it."""
    break_after: int | None = None
    """Deltas after which the connection is cut; None for never."""
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The bodies that were received."""
    sent: int = 0
    """Deltas that were sent, over all requests."""
    disconnects: int = 0
    """Requests whose client left before the end."""
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None
    _port: int = 0

    @property
    def base_url(self) -> str:
        """What to give a client as the interface's address."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self._port = listening.getsockname()[1]
        app = Starlette(routes=[Route("/v1/responses", self._responses, methods=["POST"])])
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the fake model server did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)

    async def _responses(self, request: Request) -> Response:
        self.requests.append(orjson.loads(await request.body()))
        if self.status != 200:
            error = {"error": {"message": "refused by the test", "type": "test", "code": "test"}}
            return Response(orjson.dumps(error), self.status, media_type="application/json")
        number = len(self.requests)
        said = self.script.pop(0) if self.script else self.answer
        events = self._says(number, said) if isinstance(said, str) else _calls(number, said)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _says(self, number: int, answer: str) -> AsyncIterator[bytes]:
        message_id = f"msg_{number}"
        place: dict[str, Any] = {"item_id": message_id, "output_index": 0, "content_index": 0}
        message: dict[str, Any] = {"id": message_id, "type": "message", "role": "assistant", "content": []}
        finished = message | {"status": "completed", "content": [_part(answer)]}
        frames = _Frames()
        yield frames.event("response.created", response=_response(number, "in_progress", []))
        added = message | {"status": "in_progress"}
        yield frames.event("response.output_item.added", output_index=0, item=added)
        yield frames.event("response.content_part.added", part=_part(""), **place)
        try:
            for start in range(0, len(answer), self.piece):
                if self.break_after is not None and start // self.piece >= self.break_after:
                    raise ConnectionAbortedError("cut by the test")
                await asyncio.sleep(self.pause)
                delta = answer[start : start + self.piece]
                self.sent += 1
                yield frames.event("response.output_text.delta", delta=delta, logprobs=[], **place)
        except asyncio.CancelledError:
            self.disconnects += 1
            raise
        yield frames.event("response.output_text.done", text=answer, logprobs=[], **place)
        yield frames.event("response.content_part.done", part=_part(answer), **place)
        yield frames.event("response.output_item.done", output_index=0, item=finished)
        yield frames.event(f"response.{self.ending}", response=_response(number, self.ending, [finished]))


class _Frames:
    """Server-sent events, numbered as the interface numbers them."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, type_: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": type_, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + type_.encode() + b"\ndata: " + data + b"\n\n"


async def _calls(number: int, call: ToolCall) -> AsyncIterator[bytes]:
    ids = {"id": f"fc_{number}", "call_id": f"call_{number}"}
    item: dict[str, Any] = {"type": "function_call", **ids, "name": call.name}
    arguments = orjson.dumps(call.arguments).decode()
    finished = item | {"status": "completed", "arguments": arguments}
    frames = _Frames()
    yield frames.event("response.created", response=_response(number, "in_progress", []))
    added = item | {"status": "in_progress", "arguments": ""}
    yield frames.event("response.output_item.added", output_index=0, item=added)
    yield frames.event(
        "response.function_call_arguments.done", item_id=item["id"], output_index=0, name=call.name, arguments=arguments
    )
    yield frames.event("response.output_item.done", output_index=0, item=finished)
    yield frames.event("response.completed", response=_response(number, "completed", [finished]))


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(number: int, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "model": "fake",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if status == "completed" else None,
    }
