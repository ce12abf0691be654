"""What the app makes of a request before it is routed: its path below the mount, its id, its key, its languages."""

import re
import uuid
from functools import lru_cache

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkit_rag.asgi.address import BASE_URL, base_url
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.telemetry import REQUEST_ID

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_KEY_CHARACTERS = 255
_LANGUAGE = re.compile(r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,4})[ \t]*(?:;[ \t]*q=([01](?:\.\d{0,3})?))?[ \t]*")
_LANGUAGES = 5
_LANGUAGES_CHARACTERS = 500


class AtRoot:
    """An app as if the request had the trailing slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request, as one for the mount's root."""
        await self._app({**scope, "path": "/"}, receive, send)


def relative(scope: Scope) -> Scope:
    """The scope with the path below the mount, without a trailing slash; hosts differ in what they leave of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # A proxy may have taken its own prefix off the path, while the host's root still begins with it.
    roots = (root, root.removeprefix(scope.get("app_root_path", "")))
    below = next((path.removeprefix(root) for root in roots if f"{path}/".startswith(f"{root}/")), path)
    # What goes wrong here is answered here: a Starlette host leaves its own handlers in the scope.
    inherited = {key: value for key, value in scope.items() if key != "starlette.exception_handlers"}
    return {**inherited, "path": below.rstrip("/") or "/", "root_path": "", BASE_URL: base_url(scope, below)}


def request_id_of(connection: HTTPConnection) -> str:
    """The id that the request goes by in logs and answers: the client's own where it is decent."""
    offered = connection.headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def idempotency_key_of(connection: HTTPConnection) -> str:
    """What the client calls this request; empty where it does not. Raises InvalidRequest where that is too long."""
    key = connection.headers.get("idempotency-key", "")
    if len(key) > _KEY_CHARACTERS:
        raise InvalidRequest("the idempotency key is too long", details={"limit": _KEY_CHARACTERS})
    return key


def accepted_languages_of(connection: HTTPConnection) -> tuple[str, ...]:
    """What the client's reader reads, best first (RFC 9110, 12.5.4); what is no language is passed over."""
    return _accepted(connection.headers.get("accept-language", "")[:_LANGUAGES_CHARACTERS])


@lru_cache(maxsize=256)
def _accepted(header: str) -> tuple[str, ...]:
    found = filter(None, map(_LANGUAGE.fullmatch, header.replace(", ", ",").split(",")))
    weighed = [(float(tag[2] or 1), tag[1]) for tag in found]
    ordered = [tag for weight, tag in sorted(weighed, key=lambda one: -one[0]) if weight]
    return tuple(dict.fromkeys(ordered))[:_LANGUAGES]


async def with_request_id(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Gives the request an id, and sends it back."""
    request_id = request_id_of(HTTPConnection(scope))
    scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
        await send(message)

    token = REQUEST_ID.set(request_id)
    try:
        await app(scope, receive, named)
    finally:
        REQUEST_ID.reset(token)
