"""The ids that generators make of headings. Each object remembers those of one page."""

import re
import unicodedata
from functools import lru_cache
from typing import Protocol

_PYTHON_MARKDOWN = re.compile(r"[^\w\s-]")
_COUNTED = re.compile(r"(.*)_(\d+)")


class Slugs(Protocol):
    """Makes ids for the headings of one page, in their order."""

    titles: bool
    """Whether headings of level 1 have ids, too."""
    mdx: bool
    """Whether pages that look like MDX are MDX."""

    def slug(self, text: str) -> str:
        """The id of a heading that says `text`; another one for each heading."""
        ...


class GithubSlugs:
    """Ids as github-slugger 2 makes them, for Docusaurus and plain Markdown."""

    titles = False
    mdx = True

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}

    def slug(self, text: str) -> str:
        """See `Slugs.slug`."""
        base = "".join(filter(_is_kept, text.lower())).replace(" ", "-")
        slug = base
        while slug in self._uses:
            self._uses[base] += 1
            slug = f"{base}-{self._uses[base]}"
        self._uses[slug] = 0
        return slug


@lru_cache(maxsize=4096)
def _is_kept(character: str) -> bool:
    """Letters, marks, digits, connectors, hyphens and spaces; and the letters among the symbols, as in Ⓐ."""
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc") or character in " -" or _is_letter_symbol(character)


def _is_letter_symbol(character: str) -> bool:
    return "\u24b6" <= character <= "\u24e9" or (
        "\U0001f130" <= character <= "\U0001f189" and unicodedata.name(character, "").split(" ")[-2:-1] == ["LETTER"]
    )


class MkDocsSlugs:
    """Ids as Python-Markdown makes them: ASCII letters, `_1` behind what is taken or empty."""

    titles = True
    mdx = False

    def __init__(self, *, unicode: bool = False, lower: bool = True) -> None:
        """`unicode` is for pymdownx' slugs, which keep every script; `lower` is whether those are in small letters."""
        self._unicode = unicode
        self._lower = lower
        self._taken: set[str] = set()

    def slug(self, text: str) -> str:
        """See `Slugs.slug`."""
        slug = self._of_all_scripts(text) if self._unicode else _of_ascii(text)
        while not slug or slug in self._taken:
            counted = _COUNTED.fullmatch(slug)
            slug = f"{counted[1]}_{int(counted[2]) + 1}" if counted else f"{slug}_1"
        self._taken.add(slug)
        return slug

    def _of_all_scripts(self, text: str) -> str:
        words = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", text)).strip()
        return (words.lower() if self._lower else words).replace(" ", "-")


class MdBookSlugs:
    """Ids as mdBook makes them."""

    titles = True
    mdx = False

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}

    def slug(self, text: str) -> str:
        """See `Slugs.slug`."""
        kept = (
            character
            for character in text.strip().lower()
            if character.isalnum() or character in "_-" or character.isspace()
        )
        slug = "".join("-" if character.isspace() else character for character in kept)
        uses = self._uses.get(slug, 0)
        self._uses[slug] = uses + 1
        return f"{slug}-{uses}" if uses else slug


def _of_ascii(text: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[-\s]+", "-", _PYTHON_MARKDOWN.sub("", ascii_only).strip().lower())
