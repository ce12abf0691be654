"""The layout of a built site: a folder of HTML, as Docusaurus, MkDocs, Sphinx, mdBook, Hugo and Starlight write it.

Pure: which files there are is `folders`' to say.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from chatkit_rag.documents import Document
from chatkit_rag.ingestion.addresses import path_of
from chatkit_rag.ingestion.docusaurus import with_places
from chatkit_rag.ingestion.html import HtmlPage, read_html
from chatkit_rag.ingestion.html_tree import decode_html
from chatkit_rag.ingestion.markdown import BrokenPage, holds_controls

NO_TEXT = "its main part holds no text: does a script draw it? Build the site so that its HTML holds the text"

_NO_PAGES = frozenset(("404", "search", "genindex", "py-modindex", "modindex", "http-routingtable", "print", "toc"))
"""What generators write besides pages: errors, search, indexes of names, the whole book once more."""
_VERSION = re.compile(r"v\d+(?:\.(?:\d+|x))*|\d+(?:\.(?:\d+|x))+|version-[\w.]+|latest|stable|next")
_DEEPEST_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayout:
    """A folder of HTML pages."""

    name: str = ""
    suffixes: tuple[str, ...] = (".html", ".htm")
    starts: tuple[PurePosixPath, ...] = (PurePosixPath(),)
    settings: str = "html"

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """The page in a file; None where it is no page, or does not want to be found.

        Raises:
            BrokenPage: it cannot be read, or holds no text.
        """
        if place.stem in _NO_PAGES and not (place.stem == "toc" and len(place.parts) > 1):
            return None
        page = read_html(decode_html(data), fallback=place.parent.name or self.name if _is_index(place) else place.stem)
        if page.unlisted:
            return None
        return built_document(page, address=_address(place, page.canonical), source=str(place))


def built_document(page: HtmlPage, *, address: str, source: str) -> Document:
    """The page as it stands at `address` on its site.

    Raises:
        BrokenPage: it holds no text.
    """
    if not any(section.blocks for section in page.sections):
        raise BrokenPage(NO_TEXT)
    path = address.rstrip("/") or "/"
    if holds_controls(path):
        raise BrokenPage("its address holds control characters")
    metadata = {**_version(path), **page.metadata}
    return Document(
        path=path,
        title=page.title,
        sections=page.sections,
        source=source,
        address="" if address == path else address,
        metadata=with_places(PurePosixPath(path.lstrip("/")), metadata),
    )


def _address(place: PurePosixPath, canonical: str) -> str:
    """Where the site serves the file: as the page says itself, else as servers of files do."""
    whole = f"/{place}"
    shorter = [whole.removesuffix(place.name), whole.removesuffix(f"/{place.name}")] if _is_index(place) else []
    without_suffix = whole.removesuffix(place.suffix)
    own = path_of(canonical)
    for address in filter(None, shorter or (whole, without_suffix)):
        if own.endswith(address):
            return address
    return shorter[0] if shorter else whole


def _is_index(place: PurePosixPath) -> bool:
    return place.stem == "index"


def _version(path: str) -> dict[str, str]:
    """The version that the path names, as hosts of several do: `/en/v1.2/…`."""
    for part in path.split("/")[1 : 1 + _DEEPEST_VERSION]:
        if _VERSION.fullmatch(part):
            return {"version": part}
    return {}
