"""A chat assistant over your own course or documentation pages.

The names here are the public interface. Each is resolved on its first use: the SDKs below take seconds to import, and
a command that does not need them does not wait.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkit_rag.agent.context import TurnContext
    from chatkit_rag.agent.models.extractive import ExtractiveModel
    from chatkit_rag.agent.tools import cite_tool, library_docs_tool, outline_tool, read_page_tool, search_tool
    from chatkit_rag.asgi.app import AppOptions, ChatApp
    from chatkit_rag.context import PageContext, Principal, RequestContext
    from chatkit_rag.documents import Citation, Document, Passage
    from chatkit_rag.errors import ChatKitRagError
    from chatkit_rag.ingestion.pipeline import ingest
    from chatkit_rag.retrieval.edge import EdgeIndex
    from chatkit_rag.retrieval.embedding import Embedder
    from chatkit_rag.retrieval.index import PassageIndex
    from chatkit_rag.retrieval.qdrant import QdrantIndex
    from chatkit_rag.retrieval.reranking import Reranker
    from chatkit_rag.server import RagChatServer
    from chatkit_rag.settings import Settings
    from chatkit_rag.sites import Budget, Site
    from chatkit_rag.sources.base import Source
    from chatkit_rag.sources.course import CourseSource
    from chatkit_rag.sources.library_docs import LibraryDocsSource
    from chatkit_rag.stores.base import Store
    from chatkit_rag.stores.cached import CachedStore
    from chatkit_rag.stores.memory import MemoryStore
    from chatkit_rag.stores.postgres import PostgresStore
    from chatkit_rag.stores.sql import SQLiteStore
    from chatkit_rag.wiring import create_app

_HOMES = {
    "AppOptions": "asgi.app",
    "Budget": "sites",
    "CachedStore": "stores.cached",
    "ChatApp": "asgi.app",
    "ChatKitRagError": "errors",
    "Citation": "documents",
    "CourseSource": "sources.course",
    "Document": "documents",
    "EdgeIndex": "retrieval.edge",
    "Embedder": "retrieval.embedding",
    "ExtractiveModel": "agent.models.extractive",
    "LibraryDocsSource": "sources.library_docs",
    "MemoryStore": "stores.memory",
    "PageContext": "context",
    "Passage": "documents",
    "PassageIndex": "retrieval.index",
    "PostgresStore": "stores.postgres",
    "Principal": "context",
    "QdrantIndex": "retrieval.qdrant",
    "RagChatServer": "server",
    "RequestContext": "context",
    "Reranker": "retrieval.reranking",
    "SQLiteStore": "stores.sql",
    "Settings": "settings",
    "Site": "sites",
    "Source": "sources.base",
    "Store": "stores.base",
    "TurnContext": "agent.context",
    "cite_tool": "agent.tools",
    "create_app": "wiring",
    "ingest": "ingestion.pipeline",
    "library_docs_tool": "agent.tools",
    "outline_tool": "agent.tools",
    "read_page_tool": "agent.tools",
    "search_tool": "agent.tools",
}

__all__ = [
    "AppOptions",
    "Budget",
    "CachedStore",
    "ChatApp",
    "ChatKitRagError",
    "Citation",
    "CourseSource",
    "Document",
    "EdgeIndex",
    "Embedder",
    "ExtractiveModel",
    "LibraryDocsSource",
    "MemoryStore",
    "PageContext",
    "Passage",
    "PassageIndex",
    "PostgresStore",
    "Principal",
    "QdrantIndex",
    "RagChatServer",
    "RequestContext",
    "Reranker",
    "SQLiteStore",
    "Settings",
    "Site",
    "Source",
    "Store",
    "TurnContext",
    "cite_tool",
    "create_app",
    "ingest",
    "library_docs_tool",
    "outline_tool",
    "read_page_tool",
    "search_tool",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - takes longer to import than all else here

        return version("chatkit-rag")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
