"""The vectors of a generation to be: those that were made before where the text is the same, the others made anew."""

from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio.to_thread

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.embedding import Embedder, Vector, check_vectors, passage_text
from chatkit_rag.retrieval.knowledge import text_digest
from chatkit_rag.retrieval.vector_journal import VectorJournal

_LOOKED_UP = 256
"""Passages that are looked up at once."""
_EMBEDDED = 128
"""Texts that the embedder is given at once, which is about what goes out in one request: so much a kill may cost."""

Kept = Callable[[Sequence[str]], Awaitable[Mapping[str, tuple[str, Vector]]]]
"""Ids of passages -> for those that the generation before has: the digest of what was embedded, and the vector."""


async def embed_changed(
    passages: Sequence[Passage], embedder: Embedder, kept: Kept | None, journal: VectorJournal | None = None
) -> list[Vector]:
    """A vector for every passage; passages of the same text share one.

    Args:
        passages: what is to be published.
        embedder: asked for what nobody has a vector of.
        kept: the vectors that this embedder has given for the generation before; None where there are none.
        journal: takes what the embedder gives, batch by batch, and is asked for what an interrupted run has got.

    Raises:
        EmbeddingFailed: the embedder fails, or its vectors cannot be compared with each other.
    """
    # What takes long is done in a worker: whoever indexes may answer readers meanwhile.
    digests = await anyio.to_thread.run_sync(lambda: list(map(text_digest, passages)))
    known: dict[str, Vector] = {}
    for start in range(0, len(passages), _LOOKED_UP):
        batch = slice(start, start + _LOOKED_UP)
        if kept is not None:
            known |= _compact(dict((await kept([passage.id for passage in passages[batch]])).values()))
        if journal is not None:
            unknown = {digest for digest in digests[batch] if digest not in known}
            known |= await journal.find(embedder.signature, unknown)
    dimension = embedder.dimension or next((len(vector) for vector in known.values()), None)
    # Of equal texts the last one's: any would do.
    missing = {digest: passage for digest, passage in zip(digests, passages, strict=True) if digest not in known}
    left = list(missing)
    for start in range(0, len(left), _EMBEDDED):
        asked = left[start : start + _EMBEDDED]
        made = await embedder.embed_documents([passage_text(missing[digest]) for digest in asked])
        if journal is not None and dimension and any(len(vector) != dimension for vector in made):
            await journal.clear()  # it may be what does not fit, and would not fit the next time either
        # Whoever's embedder it is: nothing is built on vectors that were not looked at.
        check_vectors(made, count=len(asked), dimension=dimension, who=embedder.signature)
        dimension = dimension or len(made[0])
        new = _compact(dict(zip(asked, made, strict=True)))
        if journal is not None:
            await journal.add(embedder.signature, new)
        known |= new
    vectors = [known[digest] for digest in digests]
    await anyio.to_thread.run_sync(
        lambda: check_vectors(vectors, count=len(passages), dimension=dimension, who=embedder.signature)
    )
    return vectors


def _compact(vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    """The same in 32 bits a number: a list of numbers takes eight times as much."""
    return {digest: array("f", vector) for digest, vector in vectors.items()}
