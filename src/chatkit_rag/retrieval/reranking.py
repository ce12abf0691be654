"""Rerankers: a second, closer look at the passages that were found."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from chatkit_rag.documents import Passage
from chatkit_rag.errors import RerankingFailed
from chatkit_rag.retrieval.embedding import passage_text
from chatkit_rag.retrieval.json_server import JsonServer, RequestOptions


class Reranker(Protocol):
    """Scores passages by how well they answer a question, better and slower than an index does."""

    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        """A score for each passage, in their order; higher is better, and nothing else is promised of the scale.

        Raises:
            RerankingFailed: there are no scores.
        """
        ...

    async def close(self) -> None:
        """Releases connections and threads; the next call takes new ones."""
        ...


class EndpointReranker:
    """A `Reranker` over any server with a `/rerank`, as Jina, Voyage, vLLM and Text Embeddings Inference have.

    It is sent the passages as `documents` and as `texts`, which is what the last of these calls them.
    """

    def __init__(self, url: str, *, model: str = "", api_key: str = "", options: RequestOptions | None = None) -> None:
        """A reranker at `url`, its `/rerank` included; `model` where the server has several."""
        self._model = model
        self._server = JsonServer(
            url,
            what="the reranker",
            failure=RerankingFailed,
            api_key=api_key,
            options=options or RequestOptions(total_seconds=10.0),
        )

    async def rerank(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """See `Reranker.rerank`."""
        texts = [passage_text(passage) for passage in passages]
        body: dict[str, Any] = {"query": question, "documents": texts, "texts": texts}
        if self._model:
            body["model"] = self._model
        scores = _scores(await self._server.post(body, retry=False))
        if scores.keys() != set(range(len(passages))):
            raise RerankingFailed(f"{self._server.name} scored {len(scores)} of {len(passages)} passages")
        return [scores[number] for number in range(len(passages))]

    async def close(self) -> None:
        """Closes the connection."""
        await self._server.close()


def _scores(answer: Any) -> dict[int, float]:
    """Number of the passage -> its score; empty where the answer is of another form."""
    try:
        rows = cast("Any", answer["results"] if isinstance(answer, dict) else answer)
        return {
            int(row["index"]): float(row["relevance_score"] if "relevance_score" in row else row["score"])
            for row in rows
        }
    except (KeyError, TypeError, ValueError):
        return {}
