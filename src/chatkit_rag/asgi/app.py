"""`ChatApp`: the chat server as one ASGI app, to be mounted in any host.

    request ─► request id ─► errors to answers ─► route ─► identity ─► operation

Routes are relative to the mount. A host need not run the lifespan of what it mounts (none of the common ones does):
either it composes `chat.lifespan` with its own, or the app starts with its first request.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chatkit.server import StreamingResult
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkit_rag.asgi.health import Health
from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.limits import BODY_BYTES, read_json_body
from chatkit_rag.asgi.pages import ChatPage
from chatkit_rag.asgi.problems import problem, problem_of
from chatkit_rag.asgi.rest import SearchRoute
from chatkit_rag.asgi.sessions import SessionRoute
from chatkit_rag.asgi.streaming import EventStream, StreamOptions
from chatkit_rag.asgi.tasks import TaskOwner
from chatkit_rag.auth import Authenticate, SessionTokens
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.server import RagChatServer

_log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """How the app treats its clients."""

    allow_anonymous: bool = False
    """Whether `POST /session` makes a new reader for whoever asks; needs `sessions`."""
    local_reader: bool = False
    """Whether a request without credentials is the reader `local`: for an app that only its own machine can reach."""
    body_bytes: int = BODY_BYTES
    drain_seconds: float = 20.0
    """How long answers that are under way may take to end when the app stops."""
    streaming: StreamOptions = field(default_factory=StreamOptions)


class ChatApp:
    """An ASGI app over a `RagChatServer`."""

    def __init__(
        self,
        server: RagChatServer,
        *,
        authenticate: Authenticate,
        sessions: SessionTokens | None = None,
        options: AppOptions | None = None,
    ) -> None:
        """The app; nothing is opened before it starts.

        Args:
            server: what answers.
            authenticate: who asks, out of a request; `auth.nobody` where only session tokens count.
            sessions: the tokens that `POST /session` hands out; without them there is no such route.
            options: limits and policies.
        """
        self.server = server
        self._options = options = options or AppOptions()
        self._identification = identification = Identification(
            authenticate=authenticate, sessions=sessions, local_reader=options.local_reader
        )
        self._owner = TaskOwner()
        self._starting = asyncio.Lock()
        self._started = False
        page = ChatPage(server)
        health = Health(server)
        search = SearchRoute(server, identification, body_bytes=options.body_bytes)
        routes = [
            Route("/", self._chatkit, methods=["POST"]),
            Route("/", page.show, methods=["GET"]),
            Route("/page", page.show, methods=["GET"]),
            Route("/search", search.answer, methods=["GET", "POST"]),
            Route("/health", health.summary, methods=["GET"]),
            Route("/health/live", health.live, methods=["GET"]),
            Route("/health/ready", health.ready, methods=["GET"]),
        ]
        if sessions is not None:
            session_route = SessionRoute(
                sessions, identification, allow_anonymous=options.allow_anonymous, body_bytes=options.body_bytes
            )
            routes.append(Route("/session", session_route.answer, methods=["POST"]))
        self._router = Router(routes, redirect_slashes=False, default=_no_such_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry: requests, and the lifespan where this app is the whole server."""
        if scope["type"] == "lifespan":
            await _run_lifespan(self, receive, send)
        elif scope["type"] == "http":
            await self.startup()
            await _with_request_id(self._respond, _relative(scope), receive, send)
        else:
            # A websocket: closing it before it is accepted makes the server answer 403.
            await send({"type": "websocket.close", "code": 1000})

    async def handle(self, request: Request, principal: Principal) -> Response:
        """The answer to a ChatKit request on a route of the host's own, for a reader whom the host knows."""
        await self.startup()
        try:
            return await self._process(request, principal)
        except Exception as exc:  # noqa: BLE001 - every failure becomes an answer here
            return problem_of(exc)

    def routes(self, path: str) -> Sequence[BaseRoute]:
        """Routes for a Starlette or FastAPI host, which spare `POST path` the redirect to `path/`."""
        path = path.rstrip("/")
        return [Route(path, _AtRoot(self), methods=["GET", "POST"]), Mount(path, app=self)]

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None]:
        """Starts and stops the app; takes the host, so that it can be the host's lifespan."""
        await self.startup()
        try:
            yield
        finally:
            await self.shutdown()

    async def startup(self) -> None:
        """Opens store and sources; a second call does nothing, and one after a failure tries again."""
        if self._started:
            return
        async with self._starting:
            if not self._started:
                await self.server.open()
                self._started = True

    async def shutdown(self) -> None:
        """Lets the answers that are under way end, stops those that take too long, and closes store and sources."""
        await self._owner.drain(within=self._options.drain_seconds)
        async with self._starting:
            if self._started:
                self._started = False
                await self.server.close()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._router(scope, receive, watch)
        except Exception as exc:
            if begun:
                raise
            await problem_of(exc)(scope, receive, send)

    async def _chatkit(self, request: Request) -> Response:
        return await self._process(request, await self._identification.reader(request))

    async def _process(self, request: Request, principal: Principal) -> Response:
        body = await read_json_body(request, limit=self._options.body_bytes)
        context = RequestContext(principal=principal, request_id=request_id_of(request.scope))
        result = await self.server.process(body, context)
        if isinstance(result, StreamingResult):
            return EventStream(result.json_events, self._owner, self._options.streaming)
        return Response(result.json, media_type="application/json")


class _AtRoot:
    """An app as if the request had the trailing slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": "/", "root_path": ""}, receive, send)


def request_id_of(scope: Scope) -> str:
    """The id that the request goes by in logs and answers."""
    return scope.get("state", {}).get("request_id", "")


def _relative(scope: Scope) -> Scope:
    """The scope with the path below the mount, without a trailing slash; hosts differ in what they leave of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path
    return {**scope, "path": below.rstrip("/") or "/", "root_path": ""}


async def _with_request_id(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Gives the request an id, the client's own where it is decent, and sends it back."""
    offered = HTTPConnection(scope).headers.get("x-request-id", "")
    request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
    scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
        await send(message)

    await app(scope, receive, named)


async def _no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    await problem(404, "not_found", "there is nothing at this address")(scope, receive, send)


async def _run_lifespan(app: ChatApp, receive: Receive, send: Send) -> None:
    await receive()
    try:
        await app.startup()
    except Exception as exc:  # noqa: BLE001 - the server wants the reason as a message, and stops
        await send({"type": "lifespan.startup.failed", "message": str(exc)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await app.shutdown()
    await send({"type": "lifespan.shutdown.complete"})
