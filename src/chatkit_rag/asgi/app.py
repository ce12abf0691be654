"""`ChatApp`: the chat server as one ASGI app, to be mounted in any host.

    request ─► request id ─► errors to answers ─► route ─► identity ─► operation

Routes are relative to the mount. A host need not run the lifespan of what it mounts (none of the common ones does):
either it composes `chat.lifespan` with its own, or the app starts with its first request.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from chatkit.server import ChatKitServer, StreamingResult
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import Message, Receive, Scope, Send

from chatkit_rag.asgi.address import BASE_URL
from chatkit_rag.asgi.attachments import AttachmentRoutes
from chatkit_rag.asgi.draining import Draining
from chatkit_rag.asgi.health import Health
from chatkit_rag.asgi.identity import Identification
from chatkit_rag.asgi.limits import AUDIO_BODY_BYTES, BODY_BYTES, read_operation
from chatkit_rag.asgi.pages import ChatPage
from chatkit_rag.asgi.problems import problem_of
from chatkit_rag.asgi.purging import FIRST_SECONDS, DailyPurge
from chatkit_rag.asgi.refusals import no_such_route, refusals_of_other_methods
from chatkit_rag.asgi.rest import SearchRoute
from chatkit_rag.asgi.scopes import (
    AtRoot,
    accepted_languages_of,
    idempotency_key_of,
    relative,
    request_id_of,
    with_request_id,
)
from chatkit_rag.asgi.sessions import SessionRoute
from chatkit_rag.asgi.slots import StreamSlots
from chatkit_rag.asgi.streaming import EventStream, StreamOptions
from chatkit_rag.asgi.tasks import TaskOwner
from chatkit_rag.auth import Authenticate, SessionTokens
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.protocol.driven import DrivenServer
from chatkit_rag.protocol.engine import overrides
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.attachments import BaseAttachmentStore
from chatkit_rag.stores.privacy import Purges

_log = logging.getLogger(__name__)


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
    retention: timedelta | None = None
    """How long after its newest message a thread is kept; None for ever. Once a day, what is older goes."""
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

        Raises:
            ConfigurationError: there is a `retention`, and the server's store cannot tell what is old.
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
        self._chores = TaskOwner()
        self._purge = self._daily_purge()
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
        if isinstance(server.attachment_store, BaseAttachmentStore):
            routes += AttachmentRoutes(server, server.attachment_store, identification).routes()
        routes += refusals_of_other_methods(routes)
        self._router = Router(routes, redirect_slashes=False, default=no_such_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry: requests, and the lifespan where this app is the whole server."""
        if scope["type"] == "lifespan":
            await _run_lifespan(self, receive, send)
        elif scope["type"] == "http":
            await with_request_id(self._respond, relative(scope), receive, send)
        else:
            # A websocket: closing it before it is accepted makes the server answer 403.
            await send({"type": "websocket.close", "code": 1000})

    async def handle(self, request: Request, principal: Principal) -> Response:
        """The answer to a ChatKit request on a route of the host's own, for a reader whom the host knows."""
        request_id = request_id_of(request)
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
        return [Route(path, AtRoot(self)), Mount(path, app=self)]

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
                if self._purge is not None:
                    self._chores.start(self._purge.run(), name="chatkit-rag: daily purge")
                if self._options.drain_on_signal:
                    self._draining.begin_on_signal()

    async def shutdown(self) -> None:
        """Lets the answers that are under way end, stops those that take too long, and closes store and sources."""
        await self._draining.finish()
        async with self._starting:
            await self._chores.drain(within=0)
            if self._started:
                self._started = False
                await self._served.close()

    def _daily_purge(self) -> DailyPurge | None:
        engine, retention = self._served.engine, self._options.retention
        if engine is not None and isinstance(engine.store, Purges):
            files = self.server.attachment_store
            return DailyPurge(engine.store, files, retention=retention, first=FIRST_SECONDS)
        if retention is not None:
            raise ConfigurationError("threads are to be kept for a while only, and this store cannot tell what is old")
        return None

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
        audio_limit = options.audio_body_bytes if overrides(self.server, "transcribe") else 0
        body = await read_operation(request, limit=options.body_bytes, audio_limit=audio_limit)
        context = RequestContext(
            principal=principal,
            request_id=request_id,
            base_url=request.scope.get(BASE_URL, ""),
            idempotency_key=idempotency_key_of(request),
            languages=accepted_languages_of(request),
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
