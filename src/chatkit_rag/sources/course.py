"""The course's own pages as a source."""

from collections.abc import Callable, Iterable

import anyio
import anyio.to_thread
from pydantic import BaseModel

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import IndexMissing
from chatkit_rag.retrieval.filters import Filter, NoneOf
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.reranking import Reranker
from chatkit_rag.retrieval.retriever import RetrievalOptions, Retrieved, Retriever
from chatkit_rag.sources.fields import FieldTypes
from chatkit_rag.sources.front_matter import front_matter_of

PUBLISHED = Filter(**dict.fromkeys(("draft", "unlisted", "unpublished"), NoneOf(True)), published=NoneOf(False))  # noqa: FBT003 - values
"""What every search is restricted to: pages whose front matter does not say that they are for nobody yet."""

_KINDS_OF_READERS = 100
"""Who may see different pages; so many kinds are remembered."""


class CourseSource:
    """Searches an index of the course's pages."""

    def __init__(
        self,
        index: PassageIndex,
        *,
        fields: type[BaseModel] | None = None,
        visible: Callable[[RequestContext], Filter] | None = None,
        reranker: Reranker | None = None,
        options: RetrievalOptions | None = None,
    ) -> None:
        """A source over `index`.

        Args:
            index: opened and closed with the source.
            fields: the front matter of the course's pages, as a model: filters may then be about its fields only, and
                their values are brought to its types. Without one it is seen from the pages what there is.
            visible: which pages the one who asks may see. It is ANDed to whatever is asked for, so nothing widens it.
            reranker: what has a second look at the passages that were found.
            options: how passages are searched and chosen.
        """
        self.index = index
        self.fields = fields
        """The front matter of the course's pages, where it is known."""
        self._types = FieldTypes(fields) if fields else None
        self._visible = visible
        self._retriever = Retriever(index, options, reranker=reranker)
        self._front_matter: dict[tuple[str, str | None, str], type[BaseModel] | None] = {}
        self._looking = anyio.Lock(fast_acquire=True)

    async def search(
        self, question: str, context: RequestContext, *, limit: int | None = None, where: Filter | None = None
    ) -> Retrieved:
        """See `Source.search`; only the site of the request is searched, where it names one.

        Args:
            question: in the reader's words.
            context: who asks, and from which page.
            limit: None takes the options'.
            where: which pages, besides, may be found.

        Raises:
            ConfigurationError: a filter is about what is no field, or no value of one.
        """
        asked = self._typed(where) if where else Filter()
        site = Filter(site=context.site) if context.site is not None else Filter()
        # What may be seen at all comes last: it is no matter what stands before it.
        restriction = asked & site & PUBLISHED & self.visible_to(context)
        page = context.page.path if context.page else ""
        return await self._retriever.retrieve(question, limit=limit, where=restriction, open_page=page)

    async def pages(self, context: RequestContext) -> list[PageRecord]:
        """The pages that the one who asks may see, in the order of their paths."""
        return _admitted(await self.index.records(site=context.site), PUBLISHED & self.visible_to(context))

    async def front_matter(self, context: RequestContext) -> type[BaseModel] | None:
        """What the one who asks may narrow a search by: `fields`, else what tells the pages that they may see apart.

        Of a page that they may not see, neither a field nor a value is among it. The pages are looked at once for each
        edition of the index, site and `visible`. None where there is nothing to narrow by.

        Raises:
            IndexError_: the index cannot be read.
        """
        if self.fields is not None:
            return self.fields
        visible = self.visible_to(context)
        # Filters that differ are not always unequal: `True` is 1 to Python.
        known = await self.index.edition(), context.site, repr(visible)
        if known in self._front_matter:
            return self._front_matter[known]
        async with self._looking:
            if known not in self._front_matter:
                found = await self._look_at_pages(context.site, PUBLISHED & visible)
                others = [kept for kept in self._front_matter.items() if kept[0][0] == known[0]]
                self._front_matter = dict([*others, (known, found)][-_KINDS_OF_READERS:])
            return self._front_matter[known]

    def visible_to(self, context: RequestContext) -> Filter:
        """What the one who asks may see, besides what is published."""
        return self._typed(self._visible(context)) if self._visible else Filter()

    async def open(self) -> None:
        """Opens the index."""
        await self.index.open()

    async def close(self) -> None:
        """Closes the reranker and the index."""
        await self._retriever.close()
        await self.index.close()

    async def ping(self) -> None:
        """See `Source.ping`. Raises IndexMissing."""
        if not await self.index.generation():
            raise IndexMissing("no pages are indexed yet: run `chatkit-rag index FOLDER`")

    async def _look_at_pages(self, site: str | None, seen: Filter) -> type[BaseModel] | None:
        records = await self.index.records(site=site)

        def look() -> type[BaseModel] | None:
            pages = [record.document.metadata for record in _admitted(records, seen)]
            return front_matter_of(pages, without=PUBLISHED.fields)

        return await anyio.to_thread.run_sync(look)  # 10,000 pages take a tenth of a second

    def _typed(self, filter_: Filter) -> Filter:
        return self._types.checked(filter_) if self._types else filter_


def _admitted(records: Iterable[PageRecord], seen: Filter) -> list[PageRecord]:
    return [
        record
        for record in records
        if seen.admits_page(record.document.metadata, site=record.site, path=record.document.path)
    ]
