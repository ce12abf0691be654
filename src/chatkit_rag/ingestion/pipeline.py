"""Pages in, a published index out: what `chatkit-rag index` does, as a function."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from chatkit_rag.documents import Document, Passage
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.addresses import path_of
from chatkit_rag.ingestion.crawling import read_url
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.folders import SkippedPage
from chatkit_rag.ingestion.journal import Journal
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.ingestion.sites import PageRead, ReadingPlan, read_folder, two_at_one_address
from chatkit_rag.retrieval.index import PassageIndex
from chatkit_rag.retrieval.manifest import PageRecord

_AT_ONCE = 32
"""Pages that are read in one visit to a thread: an unchanged page takes less time than the way there."""
_FEW = 5
"""So many pages may always go."""
_MOST_TEXT = 500_000_000
"""Characters of one site, which take some four times as much memory."""
_MOST_REMOVED = 0.5
"""A larger share of a site's pages goes only when that is asked for: it looks as if half of the site were missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """How far an ingestion has come."""

    pages: int
    passages: int
    total: int | None
    """How many pages there are to read; None as long as that is not known."""
    page: str
    """The page that was read last."""


_publishing = WeakValueDictionary[int, anyio.Lock]()
"""By the `id` of each index that is published to in this process, its lock: of two readings at once, none undoes the
other."""

Progress = Callable[[IngestProgress], None]
"""Called after every page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingestion did to one site."""

    pages: int
    added: int
    changed: int
    removed: int
    unchanged: int
    """Pages that are as they were, or that could not be read this time and stay as they were."""
    skipped: tuple[SkippedPage, ...]
    passages: int
    seconds: float
    generation: str
    """The generation that now serves: the one before, where nothing changed."""

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, in the order of its fields."""
        skipped = [{"page": page.page, "reason": page.reason} for page in self.skipped]
        return {**asdict(self), "seconds": round(self.seconds, 3), "skipped": skipped}


async def ingest(
    source: str | Path | AsyncIterable[Document],
    index: PassageIndex,
    *,
    site: str = "",
    url: str = "",
    kind: str = "auto",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_removals: bool = False,
    fetching: FetchOptions | None = None,
    journal: Path | None = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Brings `site` in `index` in step with `source`: new and changed pages in, removed ones out.

    A page that cannot be read, and what a folder or sitemap names that cannot be read, stays as the index has it.

    Args:
        source: a folder of sources or of a built site, the address of a sitemap or of a page, or any documents.
        index: where to; the pages of other sites in it stay.
        site: the name that the pages are searched under.
        url: the course's public address, which citations begin with. Without it, those of a folder are relative, and
            those of a site that is fetched lead to where it was fetched.
        kind: the kind of site in a folder, one of `kinds.KINDS`; `auto` finds out by what is there.
        include: patterns (`module-1/*`) of files or paths; where there are any, only what fits one is a page.
        exclude: patterns of what is no page, whatever else it fits.
        allow_removals: whether more than half of the site's pages may go at once.
        fetching: bounds of what is fetched, and whether private addresses may be.
        journal: a file that keeps what was read until all is; a reading that was interrupted goes on with it. Processes
            that publish to one index wait for each other where their journals are in one folder.
        dry_run: report what would be done, and do nothing.
        on_progress: called after every page that was read.

    Nothing is published, and the index stays as it was, when nothing changed or when an error is raised.

    Raises:
        IngestionError: there is nothing at `source`, no page of it can be read, or too many pages would go.
        IndexError_: the index cannot be written.
    """
    started = time.monotonic()
    if not url and is_address(source):
        url = _root(str(source))
    known = await index.records()
    before = {record.document.path: record for record in known if record.site == site}
    with Journal(None if dry_run else journal) as kept:
        reading = _Reading(site=site, url=url, signature=index.signature, on_progress=on_progress)
        by_source = {record.document.source: record for record in before.values() if record.base_url == url}
        usable = {source_: record for source_, record in kept.known.items() if record.base_url == url}
        plan = ReadingPlan(
            known=by_source | usable,
            fresh=frozenset(usable) if kept.is_fresh else frozenset(),
            wants=lambda page: _wants(page, include, exclude),
            on_total=reading.expect,
        )
        async for page in _pages(source, plan, kind=kind, url=url, fetching=fetching):
            record = reading.take(page, before)
            if record is not None and record.document.source not in usable:
                kept.add(record)
        reading.keep_unread(before)
        if not reading.now:
            reasons = "".join(f"\n  {page.page}: {page.reason}" for page in reading.skipped)
            wanted = " that fits the patterns of --include and --exclude" if include or exclude else ""
            raise IngestionError(f"no page could be indexed{reasons or f': there is none{wanted}'}")
        added = reading.now.keys() - before.keys()
        removed = before.keys() - reading.now.keys()
        changed = {
            path for path in reading.now.keys() & before.keys() if reading.now[path].digest != before[path].digest
        }
        if not allow_removals:
            _refuse_mass_removal(removed, before)
        generation = await index.generation()
        if not dry_run:
            if added or removed or changed:
                async with kept.publishing():
                    generation = await _publish(index, reading)
            kept.finish()
    return IngestReport(
        pages=len(reading.now),
        added=len(added),
        changed=len(changed),
        removed=len(removed),
        unchanged=len(reading.now) - len(added) - len(changed),
        skipped=tuple(reading.skipped),
        passages=sum(record.passages for record in reading.now.values()),
        seconds=time.monotonic() - started,
        generation=generation,
    )


@dataclass(kw_only=True)
class _Reading:
    """What was read of a site so far."""

    site: str
    url: str
    signature: str
    on_progress: Progress | None
    now: dict[str, PageRecord] = field(default_factory=dict[str, PageRecord])
    """The pages by their paths."""
    passages: dict[str, list[Passage]] = field(default_factory=dict[str, list[Passage]])
    """Those of new and changed pages, by the pages' paths."""
    skipped: list[SkippedPage] = field(default_factory=list[SkippedPage])
    total: int | None = None
    count: int = 0
    """The passages of the pages that were read."""
    text: int = 0
    """Their characters."""

    def expect(self, pages: int) -> None:
        self.total = pages

    def take(self, page: PageRead | SkippedPage, before: Mapping[str, PageRecord]) -> PageRecord | None:
        """The record of a page that is new or changed; None of one that the index has, or that was not read."""
        if isinstance(page, SkippedPage):
            self.skipped.append(page)
            return None
        if not all(section.heading_path for section in page.document.sections):
            reason = "a section of it has no heading path: the page's title goes first in each"
            self.skipped.append(SkippedPage(_name(page.document), reason))
            return None
        try:
            record = self._record(page.document, before)
        except TypeError as error:  # a document of the caller's own may hold anything
            reason = f"it holds what is no JSON, in its text or its metadata: {error}"
            self.skipped.append(SkippedPage(_name(page.document), reason))
            return None
        record = replace(record, origin=page.origin)
        path = page.document.path
        self.text += sum(len(block) for section in page.document.sections for block in section.blocks)
        if self.text > _MOST_TEXT:
            raise IngestionError(
                f"the pages hold more than {_MOST_TEXT / 1e6:g} MB of text, and nothing was done: "
                "leave some out with --include or --exclude"
            )
        self.now[path] = record
        self.count += record.passages
        if self.on_progress is not None:
            self.on_progress(IngestProgress(pages=len(self.now), passages=self.count, total=self.total, page=path))
        return record if path in self.passages else None

    def keep_unread(self, before: Mapping[str, PageRecord]) -> None:
        """Keeps what the index has of pages that were skipped, and of all where some were not even seen."""
        unseen = any(page.partial for page in self.skipped)
        skipped = {page.page for page in self.skipped}
        for path, record in before.items():
            if path not in self.now and (unseen or _name(record.document) in skipped):
                self.now[path] = replace(self._record(record.document, before), origin=record.origin)

    def all_passages(self) -> Iterator[Passage]:
        for path, record in self.now.items():
            yield from self.passages.get(path) or cut_passages(
                record.document, site=record.site, base_url=record.base_url
            )

    def _record(self, document: Document, before: Mapping[str, PageRecord]) -> PageRecord:
        record = PageRecord.of(document, site=self.site, base_url=self.url, signature=self.signature)
        known = before.get(document.path)
        if known is not None and known.digest == record.digest and known.passages:
            return known
        self.passages[document.path] = cut_passages(document, site=self.site, base_url=self.url)
        return replace(record, passages=len(self.passages[document.path]))


def _name(document: Document) -> str:
    """What a page is called where it cannot be read."""
    return document.source or document.path


def _refuse_mass_removal(removed: set[str], before: Mapping[str, PageRecord]) -> None:
    if len(removed) <= _FEW or len(removed) <= _MOST_REMOVED * len(before):
        return
    some = ", ".join(sorted(removed)[:3])
    raise IngestionError(
        f"{len(removed)} of the site's {len(before)} pages would be removed ({some}, …), and nothing was done: "
        "if they are really gone, pass --allow-removals"
    )


async def _publish(index: PassageIndex, reading: _Reading) -> str:
    async with _publishing.setdefault(id(index), anyio.Lock()):
        known = await index.records()  # once more: another reading may have published meanwhile
        others = [record for record in known if record.site != reading.site]
        passages = await anyio.to_thread.run_sync(lambda: [*_cut(others), *reading.all_passages()])
        if not passages:
            raise IngestionError("the pages hold headings only: there is no text to answer from")
        return await index.publish([*others, *reading.now.values()], passages)


def _cut(records: Sequence[PageRecord]) -> Iterator[Passage]:
    for record in records:
        yield from cut_passages(record.document, site=record.site, base_url=record.base_url)


def _wants(page: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a file's place, or an address or its path, fits the patterns."""
    names = {page, path_of(page).strip("/")} if "://" in page else {page}

    def fits(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)

    return (not include or fits(include)) and not fits(exclude)


def is_address(source: object) -> bool:
    """Whether a source is fetched."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def _root(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise IngestionError(f"{url} was not fetched: it is no address: {error}") from error
    return f"{parts.scheme}://{parts.netloc}"


async def _pages(
    source: str | Path | AsyncIterable[Document],
    plan: ReadingPlan,
    *,
    kind: str,
    url: str,
    fetching: FetchOptions | None,
) -> AsyncIterator[PageRead | SkippedPage]:
    if isinstance(source, AsyncIterable):
        taken: dict[str, str] = {}
        async for document in source:
            name = _name(document)
            if not plan.wants(name):
                continue
            if first := taken.get(document.path):
                yield two_at_one_address(first, name, document.path)
                continue
            taken[document.path] = name
            yield PageRead(document=document)
    elif is_address(source):
        async for page in read_url(str(source), base_url=url, plan=plan, options=fetching):
            yield page
    elif "://" in str(source) or not str(source):
        raise IngestionError(f"{str(source)!r} cannot be read: name a folder, or an address of http or https")
    else:
        reading = read_folder(Path(source), kind=kind, plan=plan)
        while some := await anyio.to_thread.run_sync(lambda: list(islice(reading, _AT_ONCE))):
            for page in some:
                yield page
