"""The example course's chat inside a FastAPI app: anonymous readers, threads in one SQLite file."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from chatkit_rag import AppOptions, ChatApp, CourseSource, EdgeIndex, RagChatServer, SQLiteStore, ingest
from chatkit_rag.auth import SessionTokens, nobody

PAGES = Path(__file__).parents[1] / "course" / "docs"

index = EdgeIndex(".chatkit-rag/index")
server = RagChatServer(SQLiteStore(".chatkit-rag/threads.db"), sources=[CourseSource(index)])
tokens = SessionTokens(secrets.token_urlsafe(48))  # with a secret that stays, readers outlive a restart
chat = ChatApp(server, authenticate=nobody, sessions=tokens, options=AppOptions(allow_anonymous=True))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Starts the chat, and brings the index in step with the pages."""
    async with chat.lifespan(app):
        await ingest(PAGES, index, site="course")
        yield


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(chat.routes("/api/chatkit"))
