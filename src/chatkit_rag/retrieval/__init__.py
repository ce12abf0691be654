"""From a question to the passages that answer it: analysis, embeddings, indexes, ranking.

The names that users import from here are resolved on their first use, since some need an optional package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkit_rag.retrieval.embedders.cohere_service import CohereEmbedder, CohereReranker
    from chatkit_rag.retrieval.embedders.local import FastEmbedEmbedder, FastEmbedReranker
    from chatkit_rag.retrieval.embedders.openai_interface import OpenAIEmbedder
    from chatkit_rag.retrieval.fetched import FetchedIndex
    from chatkit_rag.retrieval.filters import Filter, NoneOf, Range
    from chatkit_rag.retrieval.json_server import RequestOptions
    from chatkit_rag.retrieval.memory import MemoryIndex
    from chatkit_rag.retrieval.qdrant import QdrantIndex, QdrantOptions
    from chatkit_rag.retrieval.reranking import EndpointReranker
    from chatkit_rag.retrieval.retriever import RetrievalOptions, Retriever

_HOMES = {
    "CohereEmbedder": "embedders.cohere_service",
    "CohereReranker": "embedders.cohere_service",
    "EndpointReranker": "reranking",
    "FastEmbedEmbedder": "embedders.local",
    "FastEmbedReranker": "embedders.local",
    "FetchedIndex": "fetched",
    "Filter": "filters",
    "MemoryIndex": "memory",
    "NoneOf": "filters",
    "OpenAIEmbedder": "embedders.openai_interface",
    "QdrantIndex": "qdrant",
    "QdrantOptions": "qdrant",
    "Range": "filters",
    "RequestOptions": "json_server",
    "RetrievalOptions": "retriever",
    "Retriever": "retriever",
}

__all__ = [
    "CohereEmbedder",
    "CohereReranker",
    "EndpointReranker",
    "FastEmbedEmbedder",
    "FastEmbedReranker",
    "FetchedIndex",
    "Filter",
    "MemoryIndex",
    "NoneOf",
    "OpenAIEmbedder",
    "QdrantIndex",
    "QdrantOptions",
    "Range",
    "RequestOptions",
    "RetrievalOptions",
    "Retriever",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
