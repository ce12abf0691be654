"""Settings in, index out. Apart from `wiring`, since `index` and `search` do without the SDKs that a server needs."""

from chatkit_rag.errors import MissingExtra
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.embedders import ChosenEmbedder, choose_embedder
from chatkit_rag.retrieval.fetched import FetchedIndex
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.vector_journal import JOURNAL
from chatkit_rag.settings import Settings


def build_embedder(settings: Settings) -> ChosenEmbedder:
    """What passages and questions are embedded by."""
    openai, cohere = settings.openai_api_key, settings.cohere_api_key
    return choose_embedder(
        settings.embedder,
        openai_api_key=openai.get_secret_value() if openai else "",
        openai_base_url=settings.openai_base_url or "",
        cohere_api_key=cohere.get_secret_value() if cohere else "",
    )


def build_index(settings: Settings, *, keep: int = 2) -> PassageIndex:
    """The index that is searched and, unless it comes from an archive, published to.

    Raises:
        ConfigurationError: the embedder or the language is none, or a package is missing.
    """
    embedder = build_embedder(settings).embedder
    if settings.index:
        return FetchedIndex(
            settings.index,
            settings.data_dir / "fetched",
            refresh=settings.refresh_seconds,
            language=settings.language,
            embedder=embedder,
        )
    if settings.qdrant_url:
        try:
            from chatkit_rag.retrieval.qdrant import QdrantIndex
        except MissingExtra as exc:
            raise MissingExtra("QDRANT_URL is set, and a Qdrant server", "qdrant") from exc
        key = settings.qdrant_api_key
        return QdrantIndex(
            settings.qdrant_url,
            collection=settings.qdrant_collection,
            api_key=key.get_secret_value() if key else "",
            language=settings.language,
            embedder=embedder,
            keep=keep,
            journal=settings.index_dir / JOURNAL,
        )
    return EdgeIndex(settings.index_dir, language=settings.language, embedder=embedder, keep=keep)
