"""A model server that costs next to nothing: the Responses interface in ready-made bytes, on a bare asyncio protocol.

    python model.py PORT

The request's body says what is wanted, in any place of it: `mode=burst` (all at once), `mode=paced` (50 deltas a
second, each with the time it was written at) or `mode=paused` (one delta, and then nothing until the client leaves).
"""

# ruff: noqa: ARG002 - asyncio's signatures

import asyncio
import json
import sys
import time
from typing import Any

DELTAS = 200
PACED_DELTAS = 150
PACE = 0.02

PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(type_: str, **fields: Any) -> bytes:
    data = json.dumps({"type": type_, "sequence_number": 0, **fields}, separators=(",", ":"))
    return f"event: {type_}\ndata: {data}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(text: str, status: str) -> dict[str, Any]:
    content = [part(text)] if status == "completed" else []
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def response(status: str, output: list[Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    return {
        "id": "resp_1",
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


def delta(text: str) -> bytes:
    return frame("response.output_text.delta", delta=text, logprobs=[], **PLACE)


BEGIN = (
    frame("response.created", response=response("in_progress", []))
    + frame("response.in_progress", response=response("in_progress", []))
    + frame("response.output_item.added", output_index=0, item=message("", "in_progress"))
    + frame("response.content_part.added", part=part(""), **PLACE)
)


def end(text: str) -> bytes:
    done = message(text, "completed")
    return (
        frame("response.output_text.done", text=text, logprobs=[], **PLACE)
        + frame("response.content_part.done", part=part(text), **PLACE)
        + frame("response.output_item.done", output_index=0, item=done)
        + frame("response.completed", response=response("completed", [done]))
    )


# A word each, and four times what a course's model writes: a citation.
WORDS = [" [1]" if number % 50 == 49 else f" word{number % 10}" for number in range(DELTAS)]
BURST = HEAD + chunk(BEGIN + b"".join(map(delta, WORDS)) + end("".join(WORDS))) + b"0\r\n\r\n"


class ModelProtocol(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(body) < length:
            return
        self._buffer = b""
        if b"mode=paced" in body:
            self._transport.write(HEAD + chunk(BEGIN))
            self._pace(PACED_DELTAS, "", asyncio.get_running_loop().time())
        elif b"mode=paused" in body:
            self._transport.write(HEAD + chunk(BEGIN + delta(" waiting")))
        else:
            self._transport.write(BURST)

    def _pace(self, left: int, text: str, due: float) -> None:
        if not left:
            self._transport.write(chunk(end(text)) + b"0\r\n\r\n")
            return
        loop = asyncio.get_running_loop()
        word = f" {time.monotonic_ns()}"
        self._transport.write(chunk(delta(word)))
        self._timer = loop.call_at(due + PACE, self._pace, left - 1, text + word, due + PACE)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(ModelProtocol, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
