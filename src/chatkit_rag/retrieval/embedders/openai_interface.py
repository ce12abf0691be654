"""`OpenAIEmbedder`: OpenAI's embeddings, and every server that speaks the same `/v1/embeddings`."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from chatkit_rag.errors import EmbeddingFailed
from chatkit_rag.retrieval.embedding import Vector, check_vectors
from chatkit_rag.retrieval.json_server import JsonServer, RequestOptions

OPENAI = "https://api.openai.com/v1"

_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}

_TEXTS = 128
_CHARACTERS = 200_000
"""In one request. OpenAI takes 2,048 texts and 300,000 tokens; small batches lose less where one fails."""
_LONGEST = 24_000
"""Characters of one text: the models take 8,192 tokens, and refuse what is longer."""


class OpenAIEmbedder:
    """An `Embedder` over HTTP."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str = "",
        base_url: str = OPENAI,
        dimensions: int | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        options: RequestOptions | None = None,
    ) -> None:
        """An embedder that asks `model`.

        Args:
            model: as the server calls it.
            api_key: empty for a server that asks for none.
            base_url: the interface's address, with its `/v1`.
            dimensions: asks for shorter vectors than the model's own, where it can make them; None for its own.
            query_prefix: what the model wants before a question (`"query: "` with E5's); OpenAI's want nothing.
            document_prefix: what it wants before a passage.
            options: how long to wait, and how often to try.
        """
        self._model = model
        self._dimensions = dimensions
        self._dimension = dimensions or _DIMENSIONS.get(model)
        self._prefixes = query_prefix, document_prefix
        self._server = JsonServer(
            f"{base_url.rstrip('/')}/embeddings",
            what="the embedding server",
            failure=EmbeddingFailed,
            api_key=api_key,
            options=options,
        )

    @property
    def signature(self) -> str:
        """See `Embedder.signature`."""
        parts = ["openai", self._model, *(str(self._dimensions) for _ in range(1) if self._dimensions)]
        return ":".join([*parts, *(repr(prefix) for prefix in self._prefixes if prefix)])

    @property
    def dimension(self) -> int | None:
        """See `Embedder.dimension`: known for OpenAI's own models, and where it was asked for."""
        return self._dimension

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed_documents`."""
        prefix = self._prefixes[1]
        return [vector for batch in _batches(texts) for vector in await self._embed(prefix, batch, retry=True)]

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`."""
        [vector] = await self._embed(self._prefixes[0], [text], retry=False)
        return vector

    async def close(self) -> None:
        """Closes the connection."""
        await self._server.close()

    async def _embed(self, prefix: str, texts: Sequence[str], *, retry: bool) -> list[Vector]:
        # Whitespace alone is refused, and a dot means as little.
        inputs = [f"{prefix}{text[:_LONGEST]}" if text.strip() else "." for text in texts]
        body: dict[str, Any] = {"model": self._model, "input": inputs, "encoding_format": "float"}
        if self._dimensions:
            body["dimensions"] = self._dimensions
        vectors = _vectors(await self._server.post(body, retry=retry))
        if vectors is None:
            raise EmbeddingFailed(f"{self._server.name} does not answer as /v1/embeddings does: check its address")
        check_vectors(vectors, count=len(texts), dimension=self._dimension, who=self._server.name)
        self._dimension = self._dimension or len(vectors[0])
        return vectors


def _vectors(answer: Any) -> list[Vector] | None:
    """The vectors in the order of the texts; None where the answer is of another form."""
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = [cast("list[Any]", row["embedding"]) for row in rows]
        # JSON has no NaN: servers that met one write null, or a word.
        return [[float("nan") if value is None else float(value) for value in vector] for vector in vectors]
    except (KeyError, TypeError, ValueError):
        return None


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == _TEXTS or characters + len(text) > _CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += min(len(text), _LONGEST)
    if batch:
        yield batch
