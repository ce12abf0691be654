from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chat import chat, index
from fastapi import FastAPI

from chatkit_rag import ingest


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Starts the chat, and brings its index in step with the pages that this release came with."""
    async with chat.lifespan(app):
        await ingest("docs", index, url="https://example.org/docs/")
        yield


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(chat.routes("/api/chatkit"))
