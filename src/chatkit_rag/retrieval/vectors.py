"""The vectors of a generation to be: those of the one before where the text is the same, the others made anew."""

from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.embedding import Embedder, Vector, check_vectors, passage_text
from chatkit_rag.retrieval.knowledge import text_digest

_BATCH = 256

Kept = Callable[[Sequence[str]], Awaitable[Mapping[str, tuple[str, Vector]]]]
"""Ids of passages -> for those that the generation before has: the digest of what was embedded, and the vector."""


async def embed_changed(passages: Sequence[Passage], embedder: Embedder, kept: Kept | None) -> list[Vector]:
    """A vector for every passage. `kept` None makes all of them anew.

    Raises:
        EmbeddingFailed: the embedder fails, or its vectors cannot be compared with each other.
    """
    vectors: list[Vector] = []
    dimension: int | None = None
    for start in range(0, len(passages), _BATCH):
        batch = passages[start : start + _BATCH]
        before: Mapping[str, tuple[str, Vector]] = await kept([passage.id for passage in batch]) if kept else {}
        same = {
            passage.id: before[passage.id][1]
            for passage in batch
            if passage.id in before and before[passage.id][0] == text_digest(passage)
        }
        changed = [passage for passage in batch if passage.id not in same]
        made: Sequence[Vector] = (
            await embedder.embed_documents([passage_text(passage) for passage in changed]) if changed else []
        )
        # Whoever's embedder it is: nothing is built on vectors that were not looked at.
        check_vectors(made, count=len(changed), dimension=dimension or embedder.dimension, who=embedder.signature)
        new = iter(made)
        for passage in batch:
            vector = same[passage.id] if passage.id in same else next(new)
            vectors.append(array("f", vector))  # a list of numbers takes eight times as much
        dimension = dimension or (len(vectors[0]) if vectors else None)
    check_vectors(vectors, count=len(passages), dimension=dimension, who=embedder.signature)
    return vectors
