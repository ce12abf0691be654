"""The code on the documentation's pages runs, and does what the page says."""

import importlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from chatkit_rag import ChatApp, CourseSource, EdgeIndex, MemoryStore, Principal, RagChatServer
from chatkit_rag.asgi.app import AppOptions
from chatkit_rag.auth import nobody
from chatkit_rag.retrieval.filters import Filter

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
MODULES = sorted(path.stem for path in SNIPPETS.glob("*.py"))
ADA = {"id": "ada", "school": "north"}
CHAT = "/api/chatkit"
QUESTION = {
    "type": "threads.create",
    "params": {
        "input": {
            "content": [{"type": "input_text", "text": "What is Physical AI?"}],
            "attachments": [],
            "inference_options": {},
        }
    },
}

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(course_index_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports a snippet, and what it imports of the others, in a folder that has what the pages speak of."""
    (tmp_path / ".chatkit-rag").mkdir()
    (tmp_path / ".chatkit-rag" / "index").symlink_to(course_index_path)
    (tmp_path / "session-secret").write_text("a secret of more than thirty-two bytes\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SNIPPETS))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_snippet_is_on_a_page_and_every_page_finds_its_own():
    files = {path.name for path in SNIPPETS.iterdir() if path.is_file()}
    included = set(re.findall(r"^(?:--8<-- \")?([\w.]+\.(?:py|txt|json))\"?$", texts(), re.MULTILINE))

    assert included == files


@pytest.mark.parametrize("name", ["mount_fastapi", "mount_starlette", "mount_litestar", "lifespan"])
async def test_a_mounted_chat_answers_the_hosts_own_user(name: str, load: Load, tmp_path: Path):
    (tmp_path / "docs").symlink_to(ROOT / "examples" / "course" / "docs")
    if name == "lifespan":  # it publishes: not into the index that the other tests share
        (tmp_path / ".chatkit-rag" / "index").unlink()
    module = load(name)

    async with started(module, user=ADA) as client:
        answer = await client.post(CHAT, json=QUESTION)
        threads = await client.post(CHAT, json={"type": "threads.list", "params": {}})
    async with started(module, user=None) as client:
        refused = await client.post(CHAT, json=QUESTION)
    async with started(module, user=ADA | {"blocked": True}) as client:
        blocked = await client.post(CHAT, json=QUESTION)

    assert cited(answer)[0].endswith("/module-1/week-1/what-is-physical-ai#what-is-physical-ai")
    assert len(threads.json()["data"]) == 1
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert (blocked.status_code, blocked.json()["message"]) == (403, "your account is blocked: write to the office")


async def test_citations_lead_to_the_sites_address(load: Load, tmp_path: Path):
    (tmp_path / "docs").symlink_to(ROOT / "examples" / "course" / "docs")
    (tmp_path / ".chatkit-rag" / "index").unlink()

    async with started(load("lifespan"), user=ADA) as client:
        answer = await client.post(CHAT, json=QUESTION)

    assert cited(answer)[0].startswith("https://example.org/docs/module-1/week-1/")


async def test_anonymous_readers_get_a_token_a_new_one_for_it_and_a_page(load: Load):
    async with started(load("anonymous"), user=None) as client:
        session = (await client.post(f"{CHAT}/session", json={})).json()
        renewed = (await client.post(f"{CHAT}/session", json={"existing": session["client_secret"]})).json()
        authorization = {"Authorization": f"Bearer {renewed['client_secret']}"}
        answer = await client.post(CHAT, json=QUESTION, headers=authorization)
        page = await client.get(f"{CHAT}/page")

    assert cited(answer)
    assert '"session":true' in page.text


async def test_a_route_of_the_hosts_own_answers_its_user(load: Load):
    async with started(load("own_route"), user=ADA) as client:
        answer = await client.post("/ask", json=QUESTION)

    assert cited(answer)


async def test_a_thread_is_named_after_its_first_question(load: Load, course_index: EdgeIndex):
    titled = load("respond").TitledServer(MemoryStore(), sources=[CourseSource(course_index)])
    chat = ChatApp(titled, authenticate=lambda _connection: Principal("ada"))

    async with chat.lifespan(), client_of(chat) as client:
        answer = await client.post("/", json=QUESTION)

    titles = [event["thread"].get("title") for event in events(answer) if event["type"] == "thread.updated"]
    assert titles == ["What is Physical AI?"]


async def test_documents_from_elsewhere_are_found(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / ".chatkit-rag" / "index").unlink()

    await load("documents").update()

    assert capsys.readouterr().out == "1 new, 0 changed\n"
    async with EdgeIndex(".chatkit-rag/index") as index:
        found = await index.search("money back", where=Filter(site="faq"))
    assert found.hits[0].passage.url == "https://example.org/faq#money-back"


async def test_the_readmes_six_lines_mount_the_chat(load: Load):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    module = ModuleType("readme")
    module.__dict__["reader"] = load("authenticate").reader

    exec(code[0], module.__dict__)

    async with started(module, user=ADA) as client:
        assert cited(await client.post(CHAT, json=QUESTION))


async def test_the_transcript_has_the_events_of_a_real_stream(course_index: EdgeIndex):
    chat = ChatApp(
        RagChatServer(MemoryStore(), sources=[CourseSource(course_index)]),
        authenticate=nobody,
        options=AppOptions(local_reader=True),
    )

    async with chat.lifespan(), client_of(chat) as client:
        answer = await client.post("/", json=QUESTION)
        health = await client.get("/health")

    shown = frames((SNIPPETS / "stream.txt").read_text("utf-8"))
    assert shapes(shown) == shapes(events(answer))
    assert health.json() == json.loads((SNIPPETS / "health.json").read_text("utf-8"))


def shapes(stream: list[dict[str, Any]]) -> list[Any]:
    """What the events are and hold, in order, each once."""
    return list(dict.fromkeys(str(shape(event)) for event in stream))


def shape(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {name: shape(item, name) for name, item in sorted(value.items())}
        case list():
            return [shape(item, name) for item in value[:1]]
        case str() if name == "type":
            return value
        case _:
            return type(value).__name__


@asynccontextmanager
async def started(module: ModuleType, *, user: dict[str, Any] | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the snippet's app, started, whose requests come with the host's session of `user`."""
    session = {"user": user} if user else {}

    async def signed_in(scope: Scope, receive: Receive, send: Send) -> None:
        await module.app({**scope, "session": session}, receive, send)

    async with lifespan_of(module.app), client_of(signed_in) as client:
        yield client


def lifespan_of(app: Any) -> Any:
    """The app's lifespan, as a server would run it."""
    return app.lifespan() if hasattr(app, "lifespan") else app.router.lifespan_context(app)


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")


def texts() -> str:
    return "\n".join(page.read_text("utf-8") for page in PAGES)


def frames(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return frames(answer.text)


def cited(answer: httpx.Response) -> list[str]:
    items = [event["item"] for event in events(answer) if event["type"] == "thread.item.done"]
    parts = [part for item in items if item["type"] == "assistant_message" for part in item["content"]]
    return [annotation["source"]["url"] for part in parts for annotation in part["annotations"]]
