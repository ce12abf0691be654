"""What a request may cost before anything reads it."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from chatkit_rag.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0
_LONGEST_NUMBER = 20


async def read_json_body(request: Request, *, limit: int = BODY_BYTES, within: float = BODY_SECONDS) -> bytes:
    """The body of a JSON request, never held in memory beyond `limit` bytes.

    Asking for the media type is a defence, too: a foreign page can send `text/plain` without asking this server first.

    Raises:
        UnsupportedMediaType: the body does not say that it is JSON.
        PayloadTooLarge: it is longer than `limit`, or says that it will be.
        InvalidRequest: it did not arrive within `within` seconds, or the client left before.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("send the request as application/json", details={"content_type": media_type})
    too_large = PayloadTooLarge("the request is too large", details={"limit_bytes": limit})
    declared = request.headers.get("content-length", "")
    # Python takes no number of thousands of digits; a server would not let one through, and tests of hosts do.
    if declared.isdecimal() and (len(declared) > _LONGEST_NUMBER or int(declared) > limit):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError as exc:
        raise InvalidRequest("the request's body did not arrive in time", details={"seconds": within}) from exc
    except ClientDisconnect as exc:
        raise InvalidRequest("the client left before its request was complete") from exc
    return bytes(body)
