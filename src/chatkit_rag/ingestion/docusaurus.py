"""Docusaurus' layout: number prefixes, `id` and `slug`, index pages, drafts, `_partials`, versions and locales.

It suits other generators that publish a folder of Markdown as it is. Pure: which files there are is `folders`' to say.
"""

import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from chatkit_rag.documents import Document
from chatkit_rag.ingestion.markdown import (
    BrokenPage,
    decode_markdown,
    holds_controls,
    read_sections,
    split_front_matter,
)

_DATE_OR_VERSION = re.compile(r"\d+[-_.]\d+")
_NUMBER_PREFIX = re.compile(r"\d+\s*[-_.]+\s*([^-_.\s].*)", re.DOTALL)
_NUMBER = re.compile(r"\d{1,9}")
_PLACE = re.compile(r"(?:\d+\s*[-_.]\s*)?(module|week)[-_. ]*(\d{1,4})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocusaurusLayout:
    """A folder of Docusaurus' `docs`."""

    name: str = ""
    """What the folder is called, for want of another title of its index page."""
    suffixes: tuple[str, ...] = (".md", ".mdx")
    starts: tuple[PurePosixPath, ...] = (PurePosixPath(),)
    settings: str = "docusaurus"

    def read(self, place: PurePosixPath, data: bytes) -> Document | None:
        """The page in a file; None for a draft.

        Raises:
            BrokenPage: it cannot be read.
        """
        front_matter, body = split_front_matter(decode_markdown(data))
        if any(_is_true(front_matter.get(mark)) for mark in ("draft", "unlisted")):
            return None
        path = page_path(place, front_matter)
        title = front_matter.get("title")
        title, sections = read_sections(
            body,
            title=None if title is None else str(title),
            fallback=_title_from_name(place, self.name),
            mdx=_is_mdx(place, front_matter),
        )
        metadata = with_places(place, front_matter)
        return Document(path=path, title=title, sections=sections, source=str(place), metadata=metadata)


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
    if holds_controls(slug + last):
        raise BrokenPage(f"its slug or id {slug or last!r} holds control characters, which no page's address can")
    if not slug and _is_index(page):
        slug = "."
    slug = slug or last or (_without_number(page.stem) if strips else page.stem)
    return "/" + posixpath.normpath(posixpath.join("/", *folders, slug)).strip("/")


def with_places(place: PurePosixPath, front_matter: dict[str, Any]) -> dict[str, Any]:
    """The front matter, with `module` and `week` where the path names them, as numbers, and truth values as such."""
    metadata = {**_places(place), **front_matter}
    for name in ("module", "week"):
        if isinstance(value := metadata.get(name), str) and _NUMBER.fullmatch(value.strip()):
            metadata[name] = int(value)
    for name in ("draft", "unlisted", "unpublished", "published"):
        if isinstance(value := metadata.get(name), str) and value.lower() in ("true", "false"):
            metadata[name] = _is_true(value)
    return metadata


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


def _title_from_name(place: PurePosixPath, folder: str) -> str:
    name = (place.parent.name or folder) if _is_index(place) else place.stem
    words = re.sub(r"[-_\s]+", " ", _without_number(name)).strip() or place.name
    return words[0].upper() + words[1:]


def _places(place: PurePosixPath) -> dict[str, int]:
    """The module and week that the path names; the innermost counts."""
    parts = [*place.parent.parts, place.stem]
    return {found[1].lower(): int(found[2]) for part in parts if (found := _PLACE.match(part))}
