"""The index that a command works on, open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chatkit_rag.errors import IndexMissing
from chatkit_rag.indexing import build_index
from chatkit_rag.retrieval.generations import Generations
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.settings import Settings


@asynccontextmanager
async def opened_index(settings: Settings, *, keep: int = 2) -> AsyncGenerator[PassageIndex]:
    """The index that the settings name; `keep` generations of it stay when another is published."""
    index = build_index(settings, keep=keep)
    try:
        await index.open()
        yield index
    finally:
        await index.close()


@asynccontextmanager
async def filled_index(settings: Settings) -> AsyncGenerator[PassageIndex]:
    """The same. Raises IndexMissing where nothing is in it."""
    async with opened_index(settings) as opened:
        if not await opened.generation():
            place = settings.qdrant_url or settings.index_dir
            raise IndexMissing(f"nothing is indexed in {place}: run `chatkit-rag index FOLDER` first")
        yield opened


def is_indexed(settings: Settings) -> bool:
    """Whether there is something to search, as far as that can be told without asking a server."""
    return bool(settings.index or settings.qdrant_url) or Generations(settings.index_dir).current() is not None
