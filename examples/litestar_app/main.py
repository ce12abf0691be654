"""The example course's chat inside a Litestar app: the host's own session says who asks; threads in memory."""

import secrets
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, asgi, get
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import Redirect
from starlette.requests import HTTPConnection

from chatkit_rag import ChatApp, CourseSource, EdgeIndex, MemoryStore, Principal, RagChatServer, ingest

PAGES = Path(__file__).parents[1] / "course" / "docs"


def reader(connection: HTTPConnection) -> Principal | None:
    """Who asks, by the host's own session."""
    return Principal(user) if (user := connection.session.get("user")) else None


index = EdgeIndex(".chatkit-rag/index")
chat = ChatApp(RagChatServer(MemoryStore(), sources=[CourseSource(index)]), authenticate=reader)
mount = asgi("/api/chatkit", is_mount=True, copy_scope=True)(chat)


async def update_index() -> None:
    """Brings the index in step with the pages; runs when `chat.lifespan` has opened it."""
    await ingest(PAGES, index, site="course")


@get("/")
async def sign_in(request: Request[Any, Any, Any]) -> Redirect:
    """Stands for the host's own sign-in, and leads to the chat."""
    request.session.setdefault("user", secrets.token_hex())
    return Redirect("/api/chatkit/page")


session = ServerSideSessionConfig().middleware
app = Litestar([mount, sign_in], lifespan=[chat.lifespan], on_startup=[update_index], middleware=[session])
