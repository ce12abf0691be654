"""What a request may cost before anything reads it."""

import asyncio
import math
import re
from dataclasses import dataclass
from typing import Any, cast, get_args

import orjson
from chatkit.types import InputTranscribeReq, StreamingReq
from starlette.requests import ClientDisconnect, Request

from chatkit_rag.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0
_LONGEST_NUMBER = 20

_AUDIO_BYTES = 10 * 1024 * 1024
_ENVELOPE_BYTES = 16 * 1024
"""What a request with audio may hold besides it: the metadata, twice as large as it may be."""
AUDIO_BODY_BYTES = math.ceil(_AUDIO_BYTES * 4 / 3) + _ENVELOPE_BYTES
"""10 MB of audio as Base64, and the rest of the request."""
_AUDIO_RATE = 32 * 1024
"""Bytes per second, on average, that audio must arrive with once it is past its first ten seconds."""

_AUDIO = InputTranscribeReq.model_fields["type"].default
_SAYS_AUDIO = re.compile(rb'"type"\s*:\s*"' + re.escape(_AUDIO).encode() + rb'"')
_STREAMING: frozenset[str] = frozenset(model.model_fields["type"].default for model in get_args(StreamingReq))


@dataclass(frozen=True, slots=True)
class OperationBody:
    """A ChatKit request as it came, and what has to be known of it before it is carried out."""

    content: bytes
    streams: bool
    """Whether its answer is a stream."""


async def read_operation(request: Request, *, limit: int = BODY_BYTES, audio_limit: int = 0) -> OperationBody:
    """The body of a ChatKit request: `limit` bytes at most, or `audio_limit` where it is audio to be transcribed.

    Raises:
        PayloadTooLarge: it is longer, or is longer than `limit` and turns out to be something else than audio.
        RequestError: as `read_json_body`.
    """
    body = await read_json_body(request, limit=limit, audio_limit=audio_limit)
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None  # the server says what is wrong with it
    operation = _field(document, "type")
    if len(body) > limit:
        if operation != _AUDIO:
            raise _too_large(limit)
        _check_audio(_field(_field(document, "params"), "audio_base64"), audio_limit)
    return OperationBody(body, streams=isinstance(operation, str) and operation in _STREAMING)


async def read_json_body(
    request: Request, *, limit: int = BODY_BYTES, audio_limit: int = 0, within: float = BODY_SECONDS
) -> bytes:
    """The body of a JSON request, never held in memory beyond `limit` bytes.

    Where `audio_limit` is larger, it holds for a body that says in its first `limit` bytes that it is audio; such a
    body may also take longer to arrive. Asking for the media type is a defence, too: a foreign page can send
    `text/plain` without asking this server first.

    Raises:
        UnsupportedMediaType: the body does not say that it is JSON.
        PayloadTooLarge: it is longer than its limit, or says that it will be.
        InvalidRequest: it did not arrive within `within` seconds, or the client left before.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("send the request as application/json", details={"content_type": media_type})
    declared = request.headers.get("content-length", "")
    most = max(limit, audio_limit)
    # Python takes no number of thousands of digits; a server would not let one through, and tests of hosts do.
    if declared.isdecimal() and (len(declared) > _LONGEST_NUMBER or int(declared) > most):
        raise _too_large(most)
    body = bytearray()
    allowed = limit
    try:
        async with asyncio.timeout(within) as patience:
            deadline = patience.when() or 0.0
            async for chunk in request.stream():
                body += chunk
                if limit < len(body) <= most and allowed == limit and _SAYS_AUDIO.search(bytes(body[:limit])):
                    allowed = most
                if len(body) > allowed:
                    raise _too_large(allowed)
                if allowed > limit:
                    patience.reschedule(deadline + len(body) / _AUDIO_RATE)
    except TimeoutError as exc:
        raise InvalidRequest("the request's body did not arrive in time", details={"seconds": within}) from exc
    except ClientDisconnect as exc:
        raise InvalidRequest("the client left before its request was complete") from exc
    return bytes(body)


def _check_audio(encoded: Any, body_limit: int) -> None:
    """Refuses audio that is longer than what fits into a body of `body_limit` beside the rest of it."""
    longest = (body_limit - _ENVELOPE_BYTES) * 3 // 4
    if isinstance(encoded, str) and len(encoded) * 3 // 4 - encoded[-2:].count("=") > longest:
        raise _too_large(longest)


def _field(container: Any, name: str) -> Any:
    return cast("dict[str, Any]", container).get(name) if isinstance(container, dict) else None


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge("the request is too large", details={"limit_bytes": limit})
