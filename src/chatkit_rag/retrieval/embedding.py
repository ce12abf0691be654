"""What every embedder can do, and what is asked of its vectors before anything is built on them. Does no IO."""

import math
from collections.abc import Sequence
from typing import Protocol

from chatkit_rag.documents import Passage
from chatkit_rag.errors import EmbeddingFailed

Vector = Sequence[float]
"""A place in the embedder's space; never all zeros, since nothing is near to that."""


class Embedder(Protocol):
    """Text to vectors, so that what means the same is near. A question and a passage are embedded by different acts."""

    @property
    def signature(self) -> str:
        """What decides the vectors: those of two embedders with equal signatures may be compared."""
        ...

    @property
    def dimension(self) -> int | None:
        """How many numbers a vector has; None until the first was made, where that is not known before."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Vector]:
        """A vector for each passage's text, in order; any number of texts, which go out in batches.

        Raises:
            EmbeddingFailed: not every text got its vector.
        """
        ...

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question. Tried once: whoever asks has a reader who waits, and can search by words.

        Raises:
            EmbeddingFailed: there is none.
        """
        ...

    async def close(self) -> None:
        """Releases connections and threads; the next call takes new ones."""
        ...


def passage_text(passage: Passage) -> str:
    """What is embedded of a passage: where it stands, then what it says.

    Without the headings a passage is worse found than a window of fixed size, with them better.
    """
    where = " > ".join(dict.fromkeys((passage.title, *passage.heading_path)))
    return f"{where}\n{passage.text}"


_SHORTEST, _LONGEST = 1e-18, 1e18
"""Between them lie the lengths of vectors; the square of others is 0 or infinite in 32 bits, in which engines count."""


def check_vectors(vectors: Sequence[Vector], *, count: int, dimension: int | None, who: str) -> None:
    """Sees to it that there are `count` vectors, of `dimension` or at least of one, that can be compared.

    Raises:
        EmbeddingFailed: they are not; the message names `who` made them.
    """
    if len(vectors) != count:
        raise EmbeddingFailed(f"{who} gave {len(vectors)} vectors for {count} texts")
    for vector in vectors:
        dimension = dimension or len(vector)
        if len(vector) != dimension:
            raise EmbeddingFailed(
                f"{who} gave a vector of {len(vector)} dimensions where {dimension} were expected: "
                "is it the model that the index was built with?"
            )
        if not _SHORTEST < math.hypot(*vector) < _LONGEST:
            raise EmbeddingFailed(f"{who} gave a vector that is no direction: all zeros, NaN or infinity")
