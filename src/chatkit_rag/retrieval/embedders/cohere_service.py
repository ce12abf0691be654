"""`CohereEmbedder` and `CohereReranker`: Cohere's service, by its own client (extra `cohere`)."""

import asyncio
import contextlib
from collections.abc import Generator, Sequence
from typing import Any

from chatkit_rag.documents import Passage
from chatkit_rag.errors import ChatKitRagError, EmbeddingFailed, MissingExtra, RerankingFailed
from chatkit_rag.retrieval.embedding import Vector, check_vectors, passage_text

try:
    import cohere
    import httpx
    from cohere.core import ApiError
    from cohere.core.request_options import RequestOptions as ClientOptions
except ImportError as exc:
    raise MissingExtra("Cohere", "cohere") from exc

_TEXTS = 96
"""The most that Cohere takes in one request."""
_COHERE = "https://api.cohere.com"
_ONCE: ClientOptions = {"max_retries": 0}


class CohereEmbedder:
    """An `Embedder` of Cohere's."""

    def __init__(
        self,
        model: str = "embed-v4.0",
        *,
        api_key: str,
        dimensions: int | None = None,
        base_url: str = _COHERE,
        timeout: float = 60.0,
    ) -> None:
        """An embedder that asks `model`; `dimensions` None for the model's own; `timeout` seconds for a request."""
        self._model = model
        self._dimensions = dimensions
        self._dimension = dimensions
        self._service = _Service(api_key, base_url, timeout)

    @property
    def signature(self) -> str:
        """See `Embedder.signature`."""
        return f"cohere:{self._model}" + (f":{self._dimensions}" if self._dimensions else "")

    @property
    def dimension(self) -> int | None:
        """See `Embedder.dimension`."""
        return self._dimension

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed_documents`. The client tries again by itself."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), _TEXTS):
            vectors += await self._embed(texts[start : start + _TEXTS], "search_document", ClientOptions(max_retries=4))
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`."""
        [vector] = await self._embed([text], "search_query", _ONCE)
        return vector

    async def close(self) -> None:
        """Closes the connection."""
        await self._service.close()

    async def _embed(self, texts: Sequence[str], purpose: str, options: ClientOptions) -> list[Vector]:
        more: dict[str, Any] = {"output_dimension": self._dimensions} if self._dimensions else {}
        with _translated(EmbeddingFailed):
            answer = await self._service.client().embed(
                model=self._model,
                texts=[text if text.strip() else "." for text in texts],
                input_type=purpose,
                embedding_types=["float"],
                request_options=options,
                **more,
            )
        vectors: list[Vector] = list(answer.embeddings.float_ or [])
        check_vectors(vectors, count=len(texts), dimension=self._dimension, who="Cohere")
        self._dimension = self._dimension or len(vectors[0])
        return vectors


class CohereReranker:
    """A `Reranker` of Cohere's."""

    def __init__(
        self, model: str = "rerank-v3.5", *, api_key: str, base_url: str = _COHERE, timeout: float = 10.0
    ) -> None:
        """A reranker that asks `model`; `timeout` seconds for a request."""
        self._model = model
        self._service = _Service(api_key, base_url, timeout)

    async def rerank(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """See `Reranker.rerank`."""
        with _translated(RerankingFailed):
            answer = await self._service.client().rerank(
                model=self._model,
                query=question,
                documents=[passage_text(passage) for passage in passages],
                request_options=_ONCE,
            )
        scores = {result.index: result.relevance_score for result in answer.results}
        if scores.keys() != set(range(len(passages))):
            raise RerankingFailed(f"Cohere scored {len(scores)} of {len(passages)} passages")
        return [scores[number] for number in range(len(passages))]

    async def close(self) -> None:
        """Closes the connection."""
        await self._service.close()


class _Service:
    """A client that is made when it is needed, in the event loop that needs it."""

    def __init__(self, api_key: str, base_url: str, timeout: float) -> None:
        self._settings = api_key, base_url, timeout
        self._opened: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient, cohere.AsyncClientV2] | None = None

    def client(self) -> cohere.AsyncClientV2:
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened[0] is not loop:
            api_key, base_url, timeout = self._settings
            connection = httpx.AsyncClient(timeout=timeout)
            # The client reads variables of the environment for what it is not given; all of it is given.
            client = cohere.AsyncClientV2(
                api_key, base_url=base_url, httpx_client=connection, log_warning_experimental_features=False
            )
            self._opened = loop, connection, client
        return self._opened[2]

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] is asyncio.get_running_loop():
            await opened[1].aclose()


@contextlib.contextmanager
def _translated(failure: type[ChatKitRagError]) -> Generator[None]:
    try:
        yield
    except ApiError as exc:
        raise failure(f"Cohere answered {exc.status_code}: {exc.body}") from exc
    except httpx.HTTPError as exc:
        raise failure(f"Cohere cannot be reached: {exc!r}") from exc
