"""A chat over the example course and a model server, asked in process: for answers that need more than the course."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from agent.openai_server import model_at
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer
from protocol.frames import COVERED, Answer, question, read_frames

ADA = RequestContext(principal=Principal("ada"))


@asynccontextmanager
async def serving(
    index: EdgeIndex, model: FakeModelServer, *beside: Source, **options: Any
) -> AsyncIterator[RagChatServer]:
    """An open server, with sources beside the course."""
    server = RagChatServer(MemoryStore(), sources=[CourseSource(index), *beside], model=model_at(model), **options)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


async def asked(server: RagChatServer, text: str = COVERED, **metadata: Any) -> Answer:
    """The answer to Ada's question."""
    result = await server.process(orjson.dumps({**question(text), "metadata": metadata}), ADA)
    return Answer(read_frames(b"".join([frame async for frame in result]).decode()))
