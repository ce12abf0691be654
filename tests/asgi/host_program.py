"""A site with a chat in it under plain uvicorn, as its own main module would have it. Run as a process by tests."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit_rag import AppOptions, ChatApp, CourseSource, EdgeIndex, RagChatServer, SQLiteStore
from chatkit_rag.agent.models import choose_model
from chatkit_rag.auth import nobody


def main(index: str, threads: str, model: str, drain_seconds: str, lifespan: str) -> None:
    server = RagChatServer(
        SQLiteStore(threads),
        sources=[CourseSource(EdgeIndex(index))],
        model=choose_model("fake", api_key="test", base_url=model),
    )
    options = AppOptions(local_reader=True, streams_per_reader=0, drain_seconds=float(drain_seconds))
    chat = ChatApp(server, authenticate=nobody, options=options)
    uvicorn.run(
        Starlette(routes=[Mount("/chatkit", chat)], lifespan=chat.lifespan if lifespan == "lifespan" else None),
        host="127.0.0.1",
        port=0,
        loop="auto" if lifespan == "lifespan" else "asyncio",  # uvloop, where it is installed, and the standard one
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
