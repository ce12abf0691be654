"""What a source of passages can do."""

from typing import Protocol

from chatkit_rag.context import RequestContext
from chatkit_rag.retrieval.retriever import Retrieved


class Source(Protocol):
    """Something that passages can be searched in."""

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        """The passages that fit `question` best, as far as the one who asks may see them.

        `limit` None leaves their number to the source.
        """
        ...

    async def open(self) -> None:
        """Makes the source ready; a second call does nothing."""
        ...

    async def close(self) -> None:
        """Releases what `open` took; a second call does nothing."""
        ...

    async def ping(self) -> None:
        """Returns where the source has something to search in, and raises where not; costs nothing."""
        ...
