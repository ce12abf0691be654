"""`/search`: the passages that a question finds."""

from typing import Any

import httpx
import pytest

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.errors import IndexUnreadable
from protocol.awkward_store import SECRET
from protocol.frames import COVERED, refusal

pytestmark = pytest.mark.anyio


async def test_get_and_post_find_the_same(client: httpx.AsyncClient):
    got = await client.get("/search", params={"q": COVERED, "limit": 3, "site": "course"})
    posted = await client.post("/search", json={"q": COVERED, "limit": 3, "site": "course"})
    named = await client.post("/search", json={"query": COVERED, "limit": 3})

    assert got.status_code == 200
    assert got.json() == posted.json() == named.json()
    assert len(got.json()["hits"]) == 3


async def test_a_hit_says_where_it_stands(client: httpx.AsyncClient):
    found = (await client.get("/search", params={"q": COVERED})).json()

    first = found["hits"][0]
    assert found["query"] == COVERED
    assert len(found["hits"]) == 5
    assert set(first) == {"id", "score", "title", "heading_path", "url", "text", "site", "metadata"}
    assert first["url"].startswith("/module-1/week-1/nodes#")
    assert first["heading_path"][0] == first["title"]
    assert first["metadata"]["path"] == "/module-1/week-1/nodes"
    scores = [hit["score"] for hit in found["hits"]]
    assert scores[0] > 0


@pytest.mark.parametrize("question", ["zzzzz qqqqq", "...", "🤖", "'; DROP TABLE passages; --"])
async def test_what_is_nowhere_is_no_error(client: httpx.AsyncClient, question: str):
    response = await client.get("/search", params={"q": question})

    assert response.status_code == 200
    assert isinstance(response.json()["hits"], list)


async def test_another_site_s_pages_are_not_found(client: httpx.AsyncClient):
    response = await client.get("/search", params={"q": COVERED, "site": "elsewhere"})

    assert response.json()["hits"] == []


@pytest.mark.parametrize(
    ("limit", "count"), [(-1, 1), (0, 1), (1, 1), (10**9, 100), ("1e2", None), ("", None), ("x", None)]
)
async def test_a_limit_is_brought_within_bounds_and_must_be_a_number(
    client: httpx.AsyncClient, limit: Any, count: int | None
):
    for response in (
        await client.get("/search", params={"q": "robot", "limit": limit}),
        await client.post("/search", json={"q": "robot", "limit": limit}),
    ):
        if count is None:
            assert refusal(response, 422)["details"] == {"field": "limit"}
        else:
            assert 1 <= len(response.json()["hits"]) <= count


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"q": ""},
        {"q": " \n"},
        {"q": None},
        {"q": 3},
        {"q": ["nodes"]},
        {"q": "a\0b"},
        {"q": "x" * 1001},
        {"q": "nodes", "limit": [3]},
        {"q": "nodes", "limit": {}},
        {"q": "nodes", "limit": "9" * 5000},
        {"q": "nodes", "limit": 1.5},
        {"q": "nodes", "limit": True},
        {"q": "nodes", "site": 3},
        {"q": "nodes", "site": "a\0b"},
    ],
    ids=lambda body: str(body)[:40],
)
async def test_bad_values_are_refused(client: httpx.AsyncClient, body: dict[str, Any]):
    assert refusal(await client.post("/search", json=body), 422)["code"] == "invalid_request"


@pytest.mark.parametrize("query", ["", "q=", "q=%00", "q=" + "x" * 1001, "q=nodes&limit=" + "9" * 5000])
async def test_bad_query_strings_are_refused(client: httpx.AsyncClient, query: str):
    refusal(await client.get(f"/search?{query}"), 422)


@pytest.mark.parametrize("body", [b"", b"nodes", b"[]", b'"q"', b'{"q": "\xff"}', b'{"q": "\\ud800"}'])
async def test_what_is_no_json_object_is_refused(client: httpx.AsyncClient, body: bytes):
    refusal(await client.post("/search", content=body, headers={"Content-Type": "application/json"}), 400)


async def test_an_index_that_is_broken_is_told_without_details(
    chat: ChatApp, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def broken(*_arguments: Any, **_options: Any) -> Any:
        raise IndexUnreadable(SECRET)

    monkeypatch.setattr(chat.server.sources[0], "search", broken)

    refused = await client.get("/search", params={"q": "nodes"})

    assert refusal(refused, 503)["code"] == "index_unavailable"
    assert SECRET not in refused.text
