"""The app in its hosts: mounted, as routes, by its lifespan, without one, behind a host's own route."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.asgi.loopback import LoopbackOnly
from chatkit_rag.auth import nobody
from chatkit_rag.context import Principal
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.awkward_store import SECRET
from protocol.frames import COVERED, UNCOVERED, ask, items_of, question, read_frames, refusal, request, stream

pytestmark = pytest.mark.anyio


class OpeningStore(MemoryStore):
    """A store with connections, which can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.calls: list[str] = []

    async def open(self) -> None:
        await self._reach("open")

    async def ping(self) -> None:
        await self._reach("ping")

    async def close(self) -> None:
        self.calls.append("close")

    async def _reach(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable(SECRET)


@pytest.fixture
def store() -> OpeningStore:
    return OpeningStore()


@pytest.fixture
def unstarted(store: OpeningStore, course_index: EdgeIndex) -> ChatApp:
    """An app that nobody has started."""
    server = RagChatServer(store, sources=[CourseSource(course_index)], model="extractive")
    return ChatApp(server, authenticate=lambda _connection: Principal("reader"))


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        yield http


class TestHosts:
    @pytest.mark.parametrize("path", ["/x/", "/x//"])
    async def test_mounted(self, chat: ChatApp, path: str):
        async with client_of(Starlette(routes=[Mount("/x", app=chat)])) as http:
            answered = await http.post(path, json=question(COVERED))
            health = await http.get("/x/health")

        assert read_frames(answered.text)[-1]["type"] == "thread.item.done"
        assert health.json()["status"] == "healthy"

    @pytest.mark.parametrize("path", ["/a/chat", "/a/chat/"])
    @pytest.mark.parametrize("given", ["/a/chat", "/a/chat/"])
    async def test_as_routes_without_a_redirect_for_the_missing_slash(self, chat: ChatApp, given: str, path: str):
        async with client_of(Starlette(routes=chat.routes(given))) as http:
            answered = await http.post(path, json=question(COVERED))
            page = await http.get(path)
            health = await http.get("/a/chat/health")

        assert read_frames(answered.text)[-1]["type"] == "thread.item.done"
        assert page.headers["content-type"].startswith("text/html")
        assert health.json()["status"] == "healthy"

    @pytest.mark.parametrize("base", ["", "/proxy"], ids=["stripped", "kept"])
    async def test_in_fastapi_below_a_proxy_s_path(self, chat: ChatApp, base: str):
        app = FastAPI()
        app.router.routes.extend(chat.routes("/chat"))
        transport = httpx.ASGITransport(app, root_path="/proxy")

        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.post(f"{base}/chat", json=request("threads.list"))).status_code == 200
            assert (await http.post(f"{base}/chat/", json=request("threads.list"))).status_code == 200
            assert (await http.get(f"{base}/chat/health/live")).status_code == 200

    async def test_behind_middleware_that_reads_along(self, chat: ChatApp):
        async def dispatch(request, call_next):
            return await call_next(request)

        host = Starlette(routes=chat.routes("/chat"), middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
        async with client_of(host) as http:
            answered = await http.post("/chat", json=question(COVERED))

        assert read_frames(answered.text)[-1]["type"] == "thread.item.done"

    async def test_its_errors_are_its_own_whatever_handlers_the_host_has(
        self, chat: ChatApp, monkeypatch: pytest.MonkeyPatch
    ):
        async def leak(_request: Request, exc: Exception) -> PlainTextResponse:
            return PlainTextResponse(str(exc), 418)

        async def fails(*_arguments: Any) -> Any:
            raise ConnectionError(SECRET)

        monkeypatch.setattr(chat.server, "process", fails)
        host = Starlette(routes=chat.routes("/chat"), exception_handlers={ConnectionError: leak, 405: leak})
        async with client_of(host) as http:
            failed = await http.post("/chat", json=question(COVERED))
            wrong = [await http.put(path) for path in ("/chat", "/chat/", "/chat/search")]

        assert refusal(failed, 500)["code"] == "internal_error"
        assert SECRET not in failed.text
        for response in wrong:
            refusal(response, 405)


class TestHostsOwnRoute:
    @pytest.fixture
    async def http(self, chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
        app = FastAPI()

        async def current_user(request: Request) -> str:
            await request.body()  # as a dependency that reads the body does
            return request.headers["user"]

        @app.post("/")
        async def answer(request: Request, user: Annotated[str, Depends(current_user)]):
            return await chat.handle(request, Principal(user))

        async with client_of(app) as http:
            yield http

    async def test_the_host_says_who_asks(self, http: httpx.AsyncClient):
        http.headers["user"] = "ada"
        mine = await ask(http, COVERED)
        assert await items_of(http, mine.thread_id) == [mine.question, mine.reply]

        http.headers["user"] = "bob"
        theirs = await http.post("/", json=request("threads.get_by_id", thread_id=mine.thread_id))

        refusal(theirs, 404)

    async def test_errors_and_request_ids_are_as_on_the_app_s_own_routes(self, http: httpx.AsyncClient):
        http.headers["user"] = "ada"

        refused = await http.post("/", json={}, headers={"X-Request-ID": "abc"})
        listed = await http.post("/", json=request("threads.list"))

        assert refusal(refused, 400)["code"] == "unknown_operation"
        assert refused.headers["x-request-id"] == "abc"
        assert listed.headers["x-request-id"]


class TestStarting:
    async def test_its_lifespan_composes_with_the_host_s(self, unstarted: ChatApp, store: OpeningStore):
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with unstarted.lifespan(app):
                store.calls.append("host")
                yield

        host = Starlette(routes=[Mount("/x", app=unstarted)], lifespan=lifespan)
        async with host.router.lifespan_context(host), client_of(host) as http:
            await http.post("/x/", json=request("threads.list"))

        assert store.calls == ["open", "host", "close"]

    async def test_it_starts_with_its_first_request_where_nobody_started_it(
        self, unstarted: ChatApp, store: OpeningStore
    ):
        async with client_of(Starlette(routes=[Mount("/x", app=unstarted)])) as http:
            listed = [http.post("/x/", json=request("threads.list")) for _ in range(5)]
            statuses = [response.status_code for response in await asyncio.gather(*listed)]
        await unstarted.shutdown()
        await unstarted.shutdown()

        assert statuses == [200] * 5
        assert store.calls == ["open", "close"]

    async def test_a_start_that_failed_is_tried_again(self, unstarted: ChatApp, store: OpeningStore):
        store.away = True
        async with client_of(unstarted) as http:
            refused = await http.post("/", json=request("threads.list"))
            live, ready = await http.get("/health/live"), await http.get("/health/ready")
            assert store.calls.count("open") == 2
            store.away = False

            answered = await http.post("/", json=request("threads.list"))
        await unstarted.shutdown()

        assert refusal(refused, 503)["code"] == "store_unavailable"
        assert SECRET not in refused.text + ready.text
        assert (live.status_code, ready.status_code, answered.status_code) == (200, 503, 200)
        assert ready.json()["chatkit_server"] == "down"

    async def test_a_start_on_a_host_s_own_route_that_failed_is_answered(self, unstarted: ChatApp, store: OpeningStore):
        async def answer(request: Request) -> Any:
            return await unstarted.handle(request, Principal("reader"))

        store.away = True
        async with client_of(Starlette(routes=[Route("/", answer, methods=["POST"])])) as http:
            refusal(await http.post("/", json=request("threads.list")), 503)

    @pytest.mark.parametrize("away", [False, True])
    async def test_a_server_of_its_own_learns_how_the_start_went(
        self, unstarted: ChatApp, store: OpeningStore, *, away: bool
    ):
        store.away = away
        told: list[dict[str, Any]] = []
        messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            told.append(message)

        await unstarted({"type": "lifespan"}, receive, send)

        expected = ["startup.failed"] if away else ["startup.complete", "shutdown.complete"]
        assert [message["type"].removeprefix("lifespan.") for message in told] == expected


class TestRequestId:
    async def test_a_decent_one_is_echoed(self, client: httpx.AsyncClient):
        response = await client.get("/health", headers={"X-Request-ID": "trace-1:2.3_4"})

        assert response.headers["x-request-id"] == "trace-1:2.3_4"

    @pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "<script>", "a\tb", "é", "a\n"])
    async def test_others_are_replaced(self, client: httpx.AsyncClient, offered: str):
        response = await client.get("/health", headers={"X-Request-ID": offered.encode()})

        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])

    async def test_every_answer_has_one(self, client: httpx.AsyncClient):
        responses = [
            await client.get("/"),
            await client.get("/nothing"),
            await client.put("/"),
            await client.post("/", json=question(COVERED)),
            await client.post("/session", json={}),
        ]

        ids = [response.headers["x-request-id"] for response in responses]
        assert len(set(ids)) == 5


class TestOtherRequests:
    @pytest.mark.parametrize("path", ["/nothing", "/search/more", "/%00", "/..%2f..%2fetc"])
    async def test_an_unknown_address_is_not_found(self, client: httpx.AsyncClient, path: str):
        assert refusal(await client.get(path), 404)["code"] == "not_found"

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/", "GET, HEAD, POST"),
            ("OPTIONS", "/", "GET, HEAD, POST"),
            ("DELETE", "/search", "GET, HEAD, POST"),
            ("POST", "/health", "GET, HEAD"),
            ("GET", "/session", "POST"),
        ],
    )
    async def test_a_wrong_method_is_told_the_right_ones(
        self, client: httpx.AsyncClient, method: str, path: str, allowed: str
    ):
        refused = await client.request(method, path)

        assert refusal(refused, 405)["code"] == "method_not_allowed"
        assert refused.headers["allow"] == allowed

    async def test_there_is_no_session_route_without_tokens(self, unstarted: ChatApp):
        async with client_of(unstarted) as http, unstarted.lifespan():
            refusal(await http.post("/session", json={}), 404)

    async def test_a_websocket_is_refused_before_it_is_accepted(self, chat: ChatApp):
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await chat({"type": "websocket", "path": "/", "headers": []}, receive, send)

        assert [message["type"] for message in sent] == ["websocket.close"]


class TestLoopbackOnly:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200),
            ("LOCALHOST:8000", 200),
            ("127.0.0.1:8000", 200),
            ("[::1]", 200),
            ("[::1]:8000", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:8000", 403),
            ("[::2]", 403),
            ("0.0.0.0", 403),
            ("", 403),
        ],
    )
    async def test_only_this_machine_s_names_are_answered(self, chat: ChatApp, host: str, status: int):
        async with client_of(LoopbackOnly(chat)) as http:
            response = await http.get("/health/live", headers={"Host": host})

        assert response.status_code == status
        if status == 403:
            assert set(response.json()) == {"code", "message", "details"}


async def test_a_reader_nobody_knows_is_asked_to_sign_in(server: RagChatServer):
    app = ChatApp(server, authenticate=nobody)
    async with client_of(app) as http, app.lifespan():
        refused = await http.post("/", json=request("threads.list"))

    assert refusal(refused, 401)["code"] == "unauthenticated"
    assert refused.headers["www-authenticate"] == "Bearer"


class TestLanguages:
    @pytest.mark.parametrize(
        ("accepted", "said"),
        [
            ("de-CH, en;q=0.8", "behandelt der Kurs das nicht"),
            ("en;q=0.5, ur;q=0.9", "کورس میں شامل نہیں"),
            ("*, fr;q=0, 7=, ;;, xx", "does not cover"),
            ("e" * 4000, "does not cover"),
            ("", "does not cover"),
        ],
    )
    async def test_the_chat_itself_speaks_the_one_that_the_browser_asks_for(
        self, client: httpx.AsyncClient, accepted: str, said: str
    ):
        client.headers["accept-language"] = accepted

        answer = await ask(client, UNCOVERED)

        assert said in answer.text

    async def test_the_open_page_s_goes_before_it(self, client: httpx.AsyncClient):
        body = {**question(UNCOVERED), "metadata": {"pageContext": {"locale": "es"}}}

        answer = await stream(client, body)

        assert "el curso no trata esto" in answer.text
