"""Pages in, a published index out: what `chatkit-rag index` does, as a function."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import anyio.to_thread

from chatkit_rag.documents import Document, Passage
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.ingestion.sites import SkippedPage, read_folder
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.manifest import PageRecord

Progress = Callable[[int, str], None]
"""Called with the number of pages read so far, and the path of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingestion did to one site."""

    pages: int
    added: int
    changed: int
    removed: int
    unchanged: int
    skipped: tuple[SkippedPage, ...]
    passages: int
    seconds: float
    generation: str
    """The generation that now serves: the one before, where nothing changed."""

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, in the order of its fields."""
        return {**asdict(self), "seconds": round(self.seconds, 3), "skipped": [asdict(page) for page in self.skipped]}


async def ingest(
    source: str | Path | AsyncIterable[Document],
    index: PassageIndex,
    *,
    site: str = "",
    url: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Brings `site` in `index` in step with `source`: new and changed pages in, removed ones out.

    Args:
        source: a folder of Markdown and MDX pages, or any documents.
        index: where to; the pages of other sites in it stay.
        site: the name that the pages are searched under.
        url: the course's public address, which citations begin with; without it they are relative.
        include: patterns (`module-1/*`) of files; where there are any, only what fits one is a page.
        exclude: patterns of files that are no pages, whatever else they fit.
        dry_run: report what would be done, and do nothing.
        on_progress: called after every page that was read.

    Nothing is published, and the index stays as it was, when nothing changed or when an error is raised.

    Raises:
        IngestionError: there is no such folder, or no page in it can be read.
        IndexError_: the index cannot be written.
    """
    started = time.monotonic()
    documents: list[Document] = []
    skipped: list[SkippedPage] = []
    async for page in _pages(source):
        file = page.page if isinstance(page, SkippedPage) else page.source or page.path
        if (include and not _fits(file, include)) or _fits(file, exclude):
            continue
        if isinstance(page, SkippedPage):
            skipped.append(page)
            continue
        documents.append(page)
        if on_progress is not None:
            on_progress(len(documents), page.path)
    if not documents:
        reasons = "".join(f"\n  {page.page}: {page.reason}" for page in skipped)
        raise IngestionError(f"no page could be indexed{reasons}")

    known = await index.records()
    before = {record.document.path: record for record in known if record.site == site}
    now = {page.path: PageRecord.of(page, site=site, base_url=url, signature=index.signature) for page in documents}
    added = now.keys() - before.keys()
    removed = before.keys() - now.keys()
    changed = {path for path in now.keys() & before.keys() if now[path].digest != before[path].digest}

    records = [record for record in known if record.site != site] + list(now.values())
    passages = await anyio.to_thread.run_sync(_cut, records)
    publishes = not dry_run and bool(added or removed or changed)
    generation = await _publish(index, records, passages) if publishes else await index.generation()
    return IngestReport(
        pages=len(now),
        added=len(added),
        changed=len(changed),
        removed=len(removed),
        unchanged=len(now) - len(added) - len(changed),
        skipped=tuple(skipped),
        passages=sum(passage.site == site for passage in passages),
        seconds=time.monotonic() - started,
        generation=generation,
    )


def _fits(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


async def _publish(index: PassageIndex, records: list[PageRecord], passages: list[Passage]) -> str:
    if not passages:
        raise IngestionError("the pages hold headings only: there is no text to answer from")
    return await index.publish(records, passages)


def _cut(records: list[PageRecord]) -> list[Passage]:
    return [
        passage
        for record in records
        for passage in cut_passages(record.document, site=record.site, base_url=record.base_url)
    ]


async def _pages(source: str | Path | AsyncIterable[Document]) -> AsyncIterator[Document | SkippedPage]:
    if isinstance(source, AsyncIterable):
        async for document in source:
            yield document
        return
    reading: Iterator[Document | SkippedPage] = read_folder(Path(source))
    while (page := await anyio.to_thread.run_sync(next, reading, None)) is not None:
        yield page
