"""From a question to the passages that answer it: analysis, embeddings, indexes, ranking.

The names that users import from here are resolved on their first use, since some need an optional package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkit_rag.retrieval.embedders.cohere_service import CohereEmbedder, CohereReranker
    from chatkit_rag.retrieval.embedders.local import FastEmbedEmbedder, FastEmbedReranker
    from chatkit_rag.retrieval.embedders.openai_interface import OpenAIEmbedder
    from chatkit_rag.retrieval.json_server import RequestOptions
    from chatkit_rag.retrieval.reranking import EndpointReranker

_HOMES = {
    "CohereEmbedder": "embedders.cohere_service",
    "CohereReranker": "embedders.cohere_service",
    "EndpointReranker": "reranking",
    "FastEmbedEmbedder": "embedders.local",
    "FastEmbedReranker": "embedders.local",
    "OpenAIEmbedder": "embedders.openai_interface",
    "RequestOptions": "json_server",
}

__all__ = [
    "CohereEmbedder",
    "CohereReranker",
    "EndpointReranker",
    "FastEmbedEmbedder",
    "FastEmbedReranker",
    "OpenAIEmbedder",
    "RequestOptions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
