"""The search that an answer begins with: what the reader is told while it takes long, which few do."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from chatkit.types import ProgressUpdateEvent

from chatkit_rag.agent.instructions import languages_of
from chatkit_rag.agent.phrases import SEARCHING, in_language
from chatkit_rag.context import RequestContext
from chatkit_rag.retrieval.retriever import Retrieved

_LONG = 0.3
"""Seconds; what ends sooner would only flicker."""


@asynccontextmanager
async def under_way(search: Coroutine[Any, Any, Retrieved]) -> AsyncGenerator[asyncio.Task[Retrieved]]:
    """The search as a task, which is stopped and has ended when the block is left."""
    # Not the app's: it ends with this block, in any case.
    searching = asyncio.ensure_future(search)
    try:
        yield searching
    finally:
        if searching.cancel():
            await asyncio.wait({searching})


async def takes_long(searching: asyncio.Task[Retrieved]) -> bool:
    """Whether a search has not ended by the time at which its reader should be told of it."""
    await asyncio.sleep(0)  # an index in this process has then answered
    if not searching.done():
        await asyncio.wait({searching}, timeout=_LONG)
    return not searching.done()


def search_progress(context: RequestContext) -> ProgressUpdateEvent:
    """What the reader is told of a search."""
    return ProgressUpdateEvent(icon="search", text=in_language(SEARCHING, languages_of(context)))
