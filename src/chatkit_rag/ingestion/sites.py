"""Reading a site's folder of sources: which files are pages, and where each stands on the site.

The rules are Docusaurus' (number prefixes, `id` and `slug`, index pages, drafts, `_partials`); they suit other
generators that publish a folder as it is. A page that cannot be read is reported, and the others go on.
"""

import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chatkit_rag.documents import Document
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.markdown import BrokenPage, read_sections, split_front_matter

SUFFIXES = (".md", ".mdx")
"""What is read; other files are passed over in silence."""
MOST_BYTES = 5_000_000
"""A larger file is no page that people read."""

_DATE_OR_VERSION = re.compile(r"\d+[-_.]\d+")
_NUMBER_PREFIX = re.compile(r"\d+\s*[-_.]+\s*([^-_.\s].*)", re.DOTALL)
_PLACE = re.compile(r"(?:\d+\s*[-_.]\s*)?(module|week)[-_. ]*(\d{1,4})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SkippedPage:
    """A page that is on the site, or should be, and not in the index."""

    page: str
    """The file or folder, from the site's root."""
    reason: str
    """A sentence for its author: what is wrong, and how to mend it."""


def read_folder(root: Path) -> Iterator[Document | SkippedPage]:
    """The pages of a folder in the order of their paths, read one by one as they are asked for.

    Drafts and unlisted pages, and what begins with `_` or `.`, are left out in silence. Everything else that is left
    out comes as a `SkippedPage`. Of two pages with one address the first is read.

    Raises:
        IngestionError: there is no such folder, or no page in it; raised by the call itself.
    """
    if not root.exists():
        raise IngestionError(f"there is no folder {root}: name the one that holds the site's pages")
    if not root.is_dir():
        raise IngestionError(f"{root} is a file: name the folder that holds the site's pages")
    found = list(_walk(root))
    if not any(isinstance(page, PurePosixPath) for page in found):
        reasons = "".join(f"\n  {page.page}: {page.reason}" for page in found if isinstance(page, SkippedPage))
        raise IngestionError(f"{root} holds no page: files that end in {' or '.join(SUFFIXES)} are read{reasons}")
    return _read_all(root, found)


def page_path(page: PurePosixPath, front_matter: dict[str, Any]) -> str:
    """Where Docusaurus puts a page on the site, below the docs' own root.

    Args:
        page: the file, from the folder's root.
        front_matter: `slug`, `id` and `parse_number_prefixes` count.

    Raises:
        BrokenPage: the slug or id makes no address.
    """
    strips = front_matter.get("parse_number_prefixes") is not False
    folders = [_without_number(name) if strips else name for name in page.parent.parts]
    last, slug = str(front_matter.get("id") or ""), str(front_matter.get("slug") or "")
    if "/" in last:
        raise BrokenPage(f"its id {last!r} holds a slash: use `slug` to move a page")
    if "?" in slug or "#" in slug:
        raise BrokenPage(f"its slug {slug!r} holds ? or #, which no page's address can")
    if not slug and _is_index(page):
        slug = "."
    slug = slug or last or (_without_number(page.stem) if strips else page.stem)
    return "/" + posixpath.normpath(posixpath.join("/", *folders, slug)).strip("/")


def _walk(root: Path) -> Iterator[PurePosixPath | SkippedPage]:
    """The files that may be pages, sorted; links are followed to where they lead within the folder, once."""
    home = root.resolve()
    waiting = [(PurePosixPath(), False)]
    while waiting:
        place, through_link = waiting.pop()
        path = root / place
        name = place.name
        if name.startswith(("_", ".")) or name == "node_modules":
            continue
        if (shown := name.encode(errors="replace").decode()) != name:
            yield SkippedPage(str(place.with_name(shown)), "its name is not UTF-8: rename it")
            continue
        try:
            mode = path.lstat().st_mode if place.parts else stat.S_IFDIR
            if stat.S_ISLNK(mode):
                if reason := _why_not_followed(path, home, through_link=through_link):
                    yield SkippedPage(str(place), reason)
                    continue
                through_link, mode = True, path.stat().st_mode
            if stat.S_ISDIR(mode):
                children = sorted((child.name for child in path.iterdir()), reverse=True)
                waiting += [(place / child, through_link) for child in children]
            elif place.suffix.lower() in SUFFIXES:
                yield place if stat.S_ISREG(mode) else SkippedPage(str(place), "it is no regular file")
        except OSError as error:
            yield SkippedPage(str(place), f"it cannot be read: {error.strerror or error}")


def _why_not_followed(link: Path, home: Path, *, through_link: bool) -> str:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a link to itself, before Python 3.13
        return "it is a link that leads nowhere"
    if not target.is_relative_to(home):
        return "it is a link that leaves the folder: copy the page into it"
    if link.parent.resolve().is_relative_to(target):
        return "it is a link to a folder that it stands in"
    return "it is a link behind another link: only one is followed" if through_link else ""


def _read_all(root: Path, found: list[PurePosixPath | SkippedPage]) -> Iterator[Document | SkippedPage]:
    taken: dict[str, str] = {}
    for place in found:
        if isinstance(place, SkippedPage):
            yield place
            continue
        try:
            document = _read(root, place)
        except BrokenPage as error:
            yield SkippedPage(str(place), str(error))
            continue
        except OSError as error:
            yield SkippedPage(str(place), f"it cannot be read: {error.strerror or error}")
            continue
        if document is None:
            continue
        if first := taken.get(document.path):
            reason = f"{first} and {place} have one address, {document.path}: give one of them another slug"
            yield SkippedPage(str(place), reason)
            continue
        taken[document.path] = str(place)
        yield document


def _read(root: Path, place: PurePosixPath) -> Document | None:
    """The page in a file; None for a draft."""
    front_matter, body = split_front_matter(_text(root / place))
    if any(_is_true(front_matter.get(mark)) for mark in ("draft", "unlisted")):
        return None
    path = page_path(place, front_matter)
    title = front_matter.get("title")
    title, sections = read_sections(
        body,
        title=None if title is None else str(title),
        fallback=_title_from_name(root, place),
        mdx=_is_mdx(place, front_matter),
    )
    metadata = {**_places(place), **front_matter}
    for name in ("module", "week"):
        if isinstance(value := metadata.get(name), str) and value.strip().isdecimal():
            metadata[name] = int(value)
    return Document(path=path, title=title, sections=sections, source=str(place), metadata=metadata)


def _text(file: Path) -> str:
    if (size := file.stat().st_size) > MOST_BYTES:
        raise BrokenPage(f"it has {size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} MB are read at most: split the page")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenPage(f"it is not UTF-8 (at byte {error.start}): save it in that encoding") from error


def _is_mdx(place: PurePosixPath, front_matter: dict[str, Any]) -> bool:
    match front_matter.get("mdx"):
        case {"format": "md" | "mdx" as wanted}:
            return wanted == "mdx"
        case _:
            return place.suffix.lower() == ".mdx"


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _is_index(page: PurePosixPath) -> bool:
    return page.stem.lower() in ("index", "readme", page.parent.name.lower())


def _without_number(name: str) -> str:
    """The name without Docusaurus' number prefix; dates and versions (`2024-05-notes`, `8.0-migration`) have none."""
    found = None if _DATE_OR_VERSION.match(name) else _NUMBER_PREFIX.fullmatch(name)
    return found[1] if found else name


def _title_from_name(root: Path, place: PurePosixPath) -> str:
    name = (place.parent.name or root.resolve().name) if _is_index(place) else place.stem
    words = re.sub(r"[-_\s]+", " ", _without_number(name)).strip() or place.name
    return words[0].upper() + words[1:]


def _places(place: PurePosixPath) -> dict[str, int]:
    """The module and week that the path names; the innermost counts."""
    parts = [*place.parent.parts, place.stem]
    return {found[1].lower(): int(found[2]) for part in parts if (found := _PLACE.match(part))}
