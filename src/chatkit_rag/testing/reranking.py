"""Reranking without a model, and Cohere's wording of it and of embeddings. Does no IO."""

from typing import Any

from chatkit_rag.testing.embeddings import embed


def reranked(request: dict[str, Any], dimensions: int) -> dict[str, Any]:
    """The answer to a request: best first, scored by the cosine of question and text."""
    asked = embed(request["query"], dimensions)
    scores = [sum(a * b for a, b in zip(asked, embed(text, dimensions), strict=True)) for text in request["documents"]]
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    best_first = sorted(results, key=lambda result: -result["relevance_score"])
    return {"id": "fake", "model": request.get("model", "fake"), "results": best_first[: request.get("top_n")]}


def cohere_embeddings(request: dict[str, Any], dimensions: int) -> dict[str, Any] | None:
    """The answer to a request of Cohere's second interface; None where it holds no text."""
    texts: list[str] = request.get("texts") or []
    if not texts or not all(texts):
        return None
    size = request.get("output_dimension") or dimensions
    vectors = [embed(text, size) for text in texts]
    return {"id": "fake", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}, "texts": texts}
