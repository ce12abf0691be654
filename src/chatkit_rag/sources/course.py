"""The course's own pages as a source."""

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import IndexMissing
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.retriever import RetrievalOptions, Retrieved, Retriever


class CourseSource:
    """Searches an index of the course's pages."""

    def __init__(self, index: PassageIndex, *, options: RetrievalOptions | None = None) -> None:
        self.index = index
        self._retriever = Retriever(index, options)

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        """See `Source.search`; only the site of the request is searched, where it names one."""
        return await self._retriever.retrieve(question, limit=limit, site=context.site)

    async def open(self) -> None:
        """Opens the index."""
        await self.index.open()

    async def close(self) -> None:
        """Closes the index."""
        await self.index.close()

    async def ping(self) -> None:
        """See `Source.ping`. Raises IndexMissing."""
        if not await self.index.generation():
            raise IndexMissing("no pages are indexed yet: run `chatkit-rag index FOLDER`")
