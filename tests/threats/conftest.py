from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.stores.base import BaseStore
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore
from threats.site import EverythingServer, app_of, client_of, files_in


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        in_file = SQLiteStore(tmp_path / "threads.db")
        yield in_file
        await in_file.close()


@pytest.fixture
def server(store: BaseStore, tmp_path: Path) -> EverythingServer:
    return EverythingServer(store, attachment_store=files_in(tmp_path / "files"))


@pytest.fixture
async def chat(server: EverythingServer) -> AsyncIterator[ChatApp]:
    chat = app_of(server)
    async with chat.lifespan():
        yield chat


@pytest.fixture
async def alice(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(chat, "alice-token") as http:
        yield http


@pytest.fixture
async def bob(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(chat, "bob-token") as http:
        yield http


@pytest.fixture
async def strangers(chat: ChatApp) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Everybody but Alice."""
    async with AsyncExitStack() as stack:
        nobody = await stack.enter_async_context(client_of(chat))
        session = (await nobody.post("/session", json={})).json()["client_secret"]
        tokens = {"another": "bob-token", "namesake": "other-alice-token", "anonymous": session}
        clients = {name: await stack.enter_async_context(client_of(chat, token)) for name, token in tokens.items()}
        yield clients
