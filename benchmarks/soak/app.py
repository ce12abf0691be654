"""This library as the soak runs it, with a page that tells what the process holds.

STORE is `memory` or a file of SQLite's, MODEL_URL the model server. Who asks says so in `X-Reader`.
"""

# ruff: noqa: TID251 - the environment is how soak.py tells its server

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson
from ours import OnePassage
from starlette.requests import HTTPConnection

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.context import Principal
from chatkit_rag.protocol.engine import Quotas, TurnOptions
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.stores.sql import SQLiteStore


def who(connection: HTTPConnection) -> Principal | None:
    name = connection.headers.get("x-reader")
    return Principal(name) if name else None


def create_app() -> Any:
    """The app, and `GET /held` in front of it: how many tasks there are, and connections to the model."""
    store = os.environ["STORE"]
    options = ResponsesOptions(idle_seconds=60)
    lean = ResponsesModel("fake", api_key="none", base_url=os.environ["MODEL_URL"], options=options)
    server = RagChatServer(
        MemoryStore() if store == "memory" else SQLiteStore(store),
        sources=[OnePassage()],
        model=ChosenModel(model=lean, label="fake", costs_money=False, connection=lean),
        turns=TurnOptions(run_seconds=600),
        quotas=Quotas(threads_per_reader=0),  # a few readers ask for all
    )
    chat = ChatApp(server, authenticate=who, options=AppOptions(streams_per_reader=3))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/held":
            await chat(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": orjson.dumps(held())})

    return app


def held() -> dict[str, int]:
    return {"tasks": len(asyncio.all_tasks()), "files": len(list(Path("/proc/self/fd").iterdir()))}
