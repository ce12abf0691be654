"""Reading a site from a folder: which kind of site it is, which of its files are pages, and what each of them says.

Where a page stands on its site, and how it is read, is the layout's to know: `docusaurus`, `built`. A page that cannot
be read is reported, and the others go on; one that is as it was at the last time is not read again.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import orjson

from chatkit_rag.documents import Document
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.folders import SkippedPage, page_bytes, walk
from chatkit_rag.ingestion.kinds import choose_layout
from chatkit_rag.ingestion.layout import Layout
from chatkit_rag.ingestion.markdown import BrokenPage
from chatkit_rag.retrieval.manifest import Origin, PageRecord

READING = 2
"""Raised when the same file would be read in another way than before: every page is then read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRead:
    """A page, and what it was read from."""

    document: Document
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingPlan:
    """What is wanted of a site, and what is known of it already."""

    known: Mapping[str, PageRecord] = field(default_factory=dict[str, PageRecord])
    """The pages that were read before, by their `source`."""
    fresh: frozenset[str] = frozenset()
    """Those of them that need not be asked for again: a reading that was interrupted goes on."""
    wants: Callable[[str], bool] = lambda _: True
    """Whether the page of this file or address is wanted."""
    on_total: Callable[[int], None] = lambda _: None
    """Told how many pages there are, once that is known."""


def read_folder(root: Path, *, kind: str = "auto", plan: ReadingPlan | None = None) -> Iterator[PageRead | SkippedPage]:
    """The pages of a folder in the order of their paths, read one by one as they are asked for.

    Drafts and unlisted pages, and what begins with `_` or `.`, are left out in silence. Everything else that is left
    out comes as a `SkippedPage`. Of two pages with one address the first is read.

    Args:
        root: the folder.
        kind: the kind of site, one of `kinds.KINDS`; `auto` finds out by what is there.
        plan: what is wanted, and known already.

    Raises:
        IngestionError: there is no such folder, or no page in it; raised by the call itself.
    """
    if not root.exists():
        raise IngestionError(f"there is no folder {root}: name the one that holds the site's pages")
    if not root.is_dir():
        raise IngestionError(f"{root} is a file: name the folder that holds the site's pages")
    root, layout = choose_layout(root, kind)
    found = [place for start in layout.starts for place in walk(root, layout.suffixes, start=start)]
    if not any(isinstance(page, PurePosixPath) for page in found):
        reasons = "".join(f"\n  {page.page}: {page.reason}" for page in found if isinstance(page, SkippedPage))
        raise IngestionError(
            f"{root} holds no page: files that end in {' or '.join(layout.suffixes)} are read{reasons}"
        )
    plan = plan or ReadingPlan()
    found = [page for page in found if plan.wants(page.page if isinstance(page, SkippedPage) else str(page))]
    plan.on_total(len(found))
    return _read_all(root, layout, found, plan.known)


def fingerprint(settings: str, place: str, data: bytes) -> str:
    """Tells whether a page would be read as before; equal for equal files, wherever and whenever they were written."""
    head = orjson.dumps([settings, place])
    return f"{READING}:{hashlib.sha256(head + data).hexdigest()}"


def was_read_like_now(origin: Origin) -> bool:
    """Whether a page was read by these rules, so that an unchanged one need not be read again."""
    return origin.fingerprint.startswith(f"{READING}:")


def two_at_one_address(first: str, second: str, path: str) -> SkippedPage:
    """What is said of the second of two pages with one address."""
    return SkippedPage(second, f"{first} and {second} have one address, {path}: give one of them another")


def _read_all(
    root: Path, layout: Layout, found: list[PurePosixPath | SkippedPage], known: Mapping[str, PageRecord]
) -> Iterator[PageRead | SkippedPage]:
    taken: dict[str, str] = {}
    for place in found:
        if isinstance(place, SkippedPage):
            yield place
            continue
        try:
            page = _read(root, layout, place, known.get(str(place)))
        except BrokenPage as error:
            yield SkippedPage(str(place), str(error))
            continue
        except OSError as error:
            yield SkippedPage(str(place), f"it cannot be read: {error.strerror or error}")
            continue
        if page is None:
            continue
        if first := taken.get(page.document.path):
            yield two_at_one_address(first, str(place), page.document.path)
            continue
        taken[page.document.path] = str(place)
        yield page


def _read(root: Path, layout: Layout, place: PurePosixPath, before: PageRecord | None) -> PageRead | None:
    data = page_bytes(root / place)
    origin = Origin(fingerprint=fingerprint(layout.settings, str(place), data))
    if before is not None and before.origin.fingerprint == origin.fingerprint:
        return PageRead(document=before.document, origin=before.origin)
    document = layout.read(place, data)
    return PageRead(document=document, origin=origin) if document else None
