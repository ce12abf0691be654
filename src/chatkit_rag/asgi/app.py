"""`ChatApp`: the chat server as one ASGI app, to be mounted in any host.

    request ─► request id ─► errors to answers ─► route ─► identity ─► operation

Routes are relative to the mount. A host need not run the lifespan of what it mounts (none of the common ones does):
either it composes `chat.lifespan` with its own, or the app starts with its first request.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from chatkit.server import ChatKitServer, StreamingResult
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkit_rag.asgi.address import BASE_URL, base_url
from chatkit_rag.asgi.attachments import AttachmentRoutes
from chatkit_rag.asgi.draining import Draining
from chatkit_rag.asgi.health import Health
from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.limits import AUDIO_BODY_BYTES, BODY_BYTES, read_operation
from chatkit_rag.asgi.pages import ChatPage
from chatkit_rag.asgi.problems import problem, problem_of
from chatkit_rag.asgi.rest import SearchRoute
from chatkit_rag.asgi.sessions import SessionRoute
from chatkit_rag.asgi.slots import StreamSlots
from chatkit_rag.asgi.streaming import EventStream, StreamOptions
from chatkit_rag.asgi.tasks import TaskOwner
from chatkit_rag.auth import Authenticate, SessionTokens
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.protocol.driven import DrivenServer
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.attachments import LocalAttachmentStore
from chatkit_rag.telemetry import REQUEST_ID

_log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """How the app treats its clients."""

    allow_anonymous: bool = False
    """Whether `POST /session` makes a new reader for whoever asks; needs `sessions`."""
    local_reader: bool = False
    """Whether a request without credentials is the reader `local`: for an app that only its own machine can reach."""
    body_bytes: int = BODY_BYTES
    """The largest request body."""
    audio_body_bytes: int = AUDIO_BODY_BYTES
    """The largest body that asks to transcribe audio, where the server does that: 10 MB of audio as Base64."""
    streams_per_reader: int = 3
    """How many answers one reader may have under way in this process; 0 for any number."""
    drain_seconds: float = 20.0
    """How long answers that are under way may take to end when the app stops."""
    drain_on_signal: bool = True
    """Whether that time begins with the SIGTERM or SIGINT that ends the process: a server waits for open streams before
    it tells an app that it stops. The handler that was there is called as well."""
    streaming: StreamOptions = field(default_factory=StreamOptions)
    """How streams are kept up, and given up."""


class ChatApp:
    """An ASGI app over a `RagChatServer`, or any other ChatKit server."""

    def __init__(
        self,
        server: ChatKitServer[RequestContext],
        *,
        authenticate: Authenticate,
        sessions: SessionTokens | None = None,
        options: AppOptions | None = None,
    ) -> None:
        """The app; nothing is opened before it starts.

        Args:
            server: what answers. A server that was written for ChatKit's own `process` is driven by its hooks and its
                store, with all that is promised here, unless it overrides `process`.
            authenticate: who asks, out of a request; `auth.nobody` where only session tokens count.
            sessions: the tokens that `POST /session` hands out; without them there is no such route.
            options: limits and policies.
        """
        self.server = server
        self._served = server if isinstance(server, RagChatServer) else DrivenServer(server)
        self._options = options = options or AppOptions()
        self._identification = identification = Identification(
            authenticate=authenticate, sessions=sessions, local_reader=options.local_reader
        )
        self._owner = TaskOwner()
        self._draining = Draining(self._owner, within=options.drain_seconds)
        self._slots = StreamSlots(options.streams_per_reader)
        self._starting = asyncio.Lock()
        self._started = False
        page = ChatPage(server, session=sessions is not None and options.allow_anonymous and not options.local_reader)
        health = Health(server, start=self.startup, stopping=lambda: self._draining.begun)
        routes = [
            Route("/", self._chatkit, methods=["POST"]),
            Route("/", page.show, methods=["GET"]),
            Route("/page", page.show, methods=["GET"]),
            Route("/health", health.summary, methods=["GET"]),
            Route("/health/live", health.live, methods=["GET"]),
            Route("/health/ready", health.ready, methods=["GET"]),
        ]
        if isinstance(server, RagChatServer):
            search = SearchRoute(server, identification, body_bytes=options.body_bytes)
            routes.append(Route("/search", search.answer, methods=["GET", "POST"]))
        if sessions is not None:
            session_route = SessionRoute(
                sessions, identification, allow_anonymous=options.allow_anonymous, body_bytes=options.body_bytes
            )
            routes.append(Route("/session", session_route.answer, methods=["POST"]))
        if isinstance(server.attachment_store, LocalAttachmentStore):
            routes += AttachmentRoutes(server, server.attachment_store, identification).routes()
        routes += _refusals_of_other_methods(routes)
        self._router = Router(routes, redirect_slashes=False, default=_no_such_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry: requests, and the lifespan where this app is the whole server."""
        if scope["type"] == "lifespan":
            await _run_lifespan(self, receive, send)
        elif scope["type"] == "http":
            await _with_request_id(self._respond, _relative(scope), receive, send)
        else:
            # A websocket: closing it before it is accepted makes the server answer 403.
            await send({"type": "websocket.close", "code": 1000})

    async def handle(self, request: Request, principal: Principal) -> Response:
        """The answer to a ChatKit request on a route of the host's own, for a reader whom the host knows."""
        request_id = _request_id(request)
        try:
            await self.startup()
            answer = await self._process(request, principal, request_id)
        except Exception as exc:  # noqa: BLE001 - every failure becomes an answer here
            answer = problem_of(exc)
        answer.headers["X-Request-ID"] = request_id
        return answer

    def routes(self, path: str) -> Sequence[BaseRoute]:
        """Routes for a Starlette or FastAPI host, which spare `POST path` the redirect to `path/`."""
        path = path.rstrip("/")
        return [Route(path, _AtRoot(self)), Mount(path, app=self)]

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
                await self._served.open()
                self._started = True
                if self._options.drain_on_signal:
                    self._draining.begin_on_signal()

    async def shutdown(self) -> None:
        """Lets the answers that are under way end, stops those that take too long, and closes store and sources."""
        await self._draining.finish()
        async with self._starting:
            if self._started:
                self._started = False
                await self._served.close()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if not scope["path"].startswith("/health"):  # those tell whether it starts
                await self.startup()
            await self._router(scope, receive, watch)
        except Exception as exc:
            if begun:
                raise
            await problem_of(exc)(scope, receive, send)

    async def _chatkit(self, request: Request) -> Response:
        principal = await self._identification.reader(request)
        return await self._process(request, principal, request.scope["state"]["request_id"])

    async def _process(self, request: Request, principal: Principal, request_id: str) -> Response:
        options = self._options
        transcribes = type(self.server).transcribe is not ChatKitServer.transcribe
        audio_limit = options.audio_body_bytes if transcribes else 0
        body = await read_operation(request, limit=options.body_bytes, audio_limit=audio_limit)
        context = RequestContext(
            principal=principal,
            request_id=request_id,
            base_url=request.scope.get(BASE_URL, ""),
            idempotency_key=_idempotency_key(request),
        )
        with ExitStack() as held:
            if body.streams:
                self._draining.refuse_if_begun()
                held.enter_context(self._slots.taken(principal.owner))
            result = await self._served.process(body.content, context)
            if isinstance(result, StreamingResult):
                # The slot is given back when the answer is made, whether or not anybody reads it to its end.
                ended = held.pop_all().close
                return EventStream(result.json_events, self._owner, options.streaming, ended=ended)
        return Response(result.json, media_type="application/json")


class _AtRoot:
    """An app as if the request had the trailing slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": "/"}, receive, send)


class _OtherMethods:
    """What a route answers to methods that it does not know; Starlette's own answer is plain text."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = problem(405, "method_not_allowed", f"this address takes {self._allowed}")
        refused.headers["Allow"] = self._allowed
        await refused(scope, receive, send)


def _refusals_of_other_methods(routes: Iterable[Route]) -> list[Route]:
    allowed: dict[str, set[str]] = {}
    for route in routes:
        allowed.setdefault(route.path, set()).update(route.methods or ())
    return [Route(path, _OtherMethods(methods)) for path, methods in allowed.items()]


def _relative(scope: Scope) -> Scope:
    """The scope with the path below the mount, without a trailing slash; hosts differ in what they leave of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # A proxy may have taken its own prefix off the path, while the host's root still begins with it.
    roots = (root, root.removeprefix(scope.get("app_root_path", "")))
    below = next((path.removeprefix(root) for root in roots if f"{path}/".startswith(f"{root}/")), path)
    # What goes wrong here is answered here: a Starlette host leaves its own handlers in the scope.
    inherited = {key: value for key, value in scope.items() if key != "starlette.exception_handlers"}
    return {**inherited, "path": below.rstrip("/") or "/", "root_path": "", BASE_URL: base_url(scope, below)}


def _request_id(connection: HTTPConnection) -> str:
    """The id that the request goes by in logs and answers: the client's own where it is decent."""
    offered = connection.headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def _idempotency_key(connection: HTTPConnection) -> str:
    key = connection.headers.get("idempotency-key", "")
    if len(key) > _KEY_CHARACTERS:
        raise InvalidRequest("the idempotency key is too long", details={"limit": _KEY_CHARACTERS})
    return key


async def _with_request_id(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Gives the request an id, and sends it back."""
    request_id = _request_id(HTTPConnection(scope))
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
