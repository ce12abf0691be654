"""The files of a folder that may be pages, and their bytes, within bounds: what every kind of site has in common."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chatkit_rag.ingestion.markdown import BrokenPage, holds_controls

MOST_BYTES = 5_000_000
"""A larger file is no page that people read."""


@dataclass(frozen=True, slots=True)
class SkippedPage:
    """A page that is on the site, or should be, and could not be read; the index keeps what it has of it."""

    page: str
    """The file or folder, from the site's root, or the address."""
    reason: str
    """A sentence for its author: what is wrong, and how to mend it."""
    partial: bool = False
    """Whether pages stay unseen for it: a folder or sitemap that cannot be read."""


def walk(
    root: Path, suffixes: tuple[str, ...], *, start: PurePosixPath | None = None
) -> Iterator[PurePosixPath | SkippedPage]:
    """The files below `root` (below its folder `start`) that end in one of `suffixes`, sorted; a README comes last.

    What begins with `_` or `.` is passed over, and so is `node_modules`. Links are followed to where they lead within
    the folder, once.
    """
    home = root.resolve()
    waiting = [(start or PurePosixPath(), False)]
    first = True
    while waiting:
        place, through_link = waiting.pop()
        path = root / place
        name = place.name
        if not first and (name.startswith(("_", ".")) or name == "node_modules"):
            continue
        if (shown := name.encode(errors="replace").decode()) != name or holds_controls(name):
            shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
            yield SkippedPage(
                str(place.with_name(shown)), "its name is not UTF-8, or holds control characters: rename it"
            )
            continue
        try:
            mode = stat.S_IFDIR if first else path.lstat().st_mode
            first = False
            if stat.S_ISLNK(mode):
                if reason := _why_not_followed(path, home, through_link=through_link):
                    yield SkippedPage(str(place), reason)
                    continue
                through_link, mode = True, path.stat().st_mode
            if stat.S_ISDIR(mode):
                children = sorted((child.name for child in path.iterdir()), key=_after_index, reverse=True)
                waiting += [(place / child, through_link) for child in children]
            elif place.suffix.lower() in suffixes:
                yield place if stat.S_ISREG(mode) else SkippedPage(str(place), "it is no regular file")
        except OSError as error:
            yield SkippedPage(str(place), f"it cannot be read: {error.strerror or error}", partial=True)


def _after_index(name: str) -> tuple[bool, str]:
    """Sorts an `index` before the README beside it: of two pages with one address, generators publish that one."""
    return name.lower().startswith("readme."), name


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


def page_bytes(file: Path) -> bytes:
    """What is in the file.

    Raises:
        BrokenPage: it is too large for a page.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise BrokenPage(too_large())
    return data


def too_large(most: int | None = None) -> str:
    """The reason for which a page of more than `most` bytes is left out."""
    return f"it has more than {(most or MOST_BYTES) / 1e6:g} MB, and no more are read: split it"
