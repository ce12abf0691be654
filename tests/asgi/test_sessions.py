"""`POST /session`: tokens for browsers, and what the routes take for one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from starlette.requests import HTTPConnection

from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import SessionTokens, nobody
from chatkit_rag.context import Principal, utc_now
from chatkit_rag.errors import AuthUnavailable, Forbidden, Unauthenticated
from chatkit_rag.server import RagChatServer
from protocol.frames import COVERED, ask, items_of, refusal, request

pytestmark = pytest.mark.anyio

TOKENS = SessionTokens("a secret of more than thirty-two bytes, and not the shared one")


@pytest.fixture
def site(server: RagChatServer) -> Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]:
    """A client of an app that is no local one."""

    @asynccontextmanager
    async def site(*, authenticate: Any = nobody, allow_anonymous: bool = True) -> AsyncIterator[httpx.AsyncClient]:
        options = AppOptions(allow_anonymous=allow_anonymous)
        chat = ChatApp(server, authenticate=authenticate, sessions=TOKENS, options=options)
        transport = httpx.ASGITransport(chat)
        async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="https://x.org") as http:
            yield http

    return site


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestPostSession:
    async def test_a_new_reader_gets_a_token_that_ends_in_a_quarter_of_an_hour(self, site):
        async with site() as http:
            body = (await http.post("/session", json={})).json()

        assert set(body) == {"client_secret", "expires_at"}
        left = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
        assert timedelta(minutes=14) < left <= timedelta(minutes=15)
        assert TOKENS.verify(body["client_secret"]).id.startswith("anon_")

    async def test_the_body_may_be_empty(self, site):
        async with site() as http:
            response = await http.post("/session", headers={"Content-Type": "application/json"})

        assert response.status_code == 200

    @pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=1), timedelta(days=29)])
    async def test_a_token_is_exchanged_for_a_new_one_of_the_same_reader(self, site, age: timedelta):
        existing = TOKENS.issue(Principal("anon_1"), now=utc_now() - age).client_secret
        async with site() as http:
            body = (await http.post("/session", json={"existing": existing})).json()

        assert TOKENS.verify(body["client_secret"]).id == "anon_1"

    async def test_a_reader_keeps_their_threads(self, site):
        async with site() as http:
            first = (await http.post("/session", json={})).json()["client_secret"]
            http.headers.update(bearer(first))
            mine = await ask(http, COVERED)
            del http.headers["Authorization"]

            second = (await http.post("/session", json={"existing": first})).json()["client_secret"]
            http.headers.update(bearer(second))

            assert await items_of(http, mine.thread_id) == [mine.question, mine.reply]

    async def test_one_that_is_too_old_or_not_ours_is_refused(self, site):
        old = TOKENS.issue(Principal("anon_1"), now=utc_now() - timedelta(days=31)).client_secret
        other = SessionTokens("another secret of more than thirty-two bytes").issue_anonymous().client_secret
        good = TOKENS.issue_anonymous().client_secret
        unsigned = jwt.encode(jwt.decode(good, options={"verify_signature": False}), "", algorithm="none")
        tampered = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
        async with site() as http:
            for existing in (old, other, unsigned, tampered, "", "x", good + "."):
                assert refusal(await http.post("/session", json={"existing": existing}), 401)

    @pytest.mark.parametrize("existing", [3, [], {}, True])
    async def test_what_is_no_token_at_all_is_a_bad_request(self, site, existing: Any):
        async with site() as http:
            refusal(await http.post("/session", json={"existing": existing}), 422)

    async def test_nobody_gets_one_where_anonymous_readers_are_not_taken(self, site):
        existing = TOKENS.issue_anonymous().client_secret
        async with site(allow_anonymous=False) as http:
            refusal(await http.post("/session", json={}), 401)
            assert (await http.post("/session", json={"existing": existing})).status_code == 200

    async def test_a_signed_in_reader_gets_their_own(self, site):
        async with site(authenticate=lambda _connection: Principal("ada", tenant="school")) as http:
            body = (await http.post("/session", json={})).json()

        assert TOKENS.verify(body["client_secret"]).owner == ("school", "ada")

    async def test_it_takes_no_form_of_a_foreign_page(self, site):
        async with site() as http:
            refusal(await http.post("/session", content=b"{}", headers={"Content-Type": "text/plain"}), 415)


class TestAuthorization:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp5", "Bearer a.b.c"])
    @pytest.mark.parametrize("path", ["/", "/search", "/session"])
    async def test_a_bad_header_is_refused_also_where_none_is_needed(
        self, client: httpx.AsyncClient, header: str, path: str
    ):
        refused = await client.post(path, json=request("threads.list"), headers={"Authorization": header})

        assert refusal(refused, 401)["code"] == "unauthenticated"
        assert refused.headers["www-authenticate"] == "Bearer"

    async def test_an_expired_token_is_refused(self, site):
        expired = TOKENS.issue(Principal("anon_1"), now=utc_now() - timedelta(minutes=16)).client_secret
        async with site() as http:
            refusal(await http.post("/", json=request("threads.list"), headers=bearer(expired)), 401)

    async def test_no_header_is_refused_where_readers_are_not_local(self, site):
        async with site() as http:
            refusal(await http.post("/", json=request("threads.list")), 401)
            refusal(await http.get("/search", params={"q": "nodes"}), 401)

    @pytest.mark.parametrize(
        ("failure", "status"),
        [
            (Unauthenticated("no"), 401),
            (Forbidden("no"), 403),
            (AuthUnavailable("later"), 503),
            (RuntimeError("hunter2"), 500),
        ],
    )
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_the_site_s_own_word_decides(self, site, failure: Exception, status: int, *, is_async: bool):
        asked: list[HTTPConnection] = []

        def authenticate(connection: HTTPConnection) -> Principal:
            asked.append(connection)
            raise failure

        async def authenticate_later(connection: HTTPConnection) -> Principal:
            return authenticate(connection)

        async with site(authenticate=authenticate_later if is_async else authenticate) as http:
            refused = await http.post("/", json=request("threads.list"))

        assert len(asked) == 1
        refusal(refused, status)
        assert "hunter2" not in refused.text

    async def test_a_session_token_counts_where_the_site_knows_nobody(self, site):
        async with site() as http:
            token = TOKENS.issue_anonymous().client_secret
            response = await http.post("/", json=request("threads.list"), headers=bearer(token))

        assert response.status_code == 200
