"""What a search can be narrowed by where no model of the front matter says it: what its pages say. Does no IO.

Not every field is one: a page's own name tells it from all others, and its place in a sidebar says nothing of it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from chatkit_rag.retrieval.filters import OWN, kind_of, values_of

_FIELDS = 6
"""Those that most pages have: a model reads all of them with every question."""
_VALUES = 16
"""Of a field whose values are listed: the weeks of a semester."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_LABEL_CHARACTERS, _LABEL_WORDS = 32, 4
"""Of a text that is listed: it comes to stand where a model reads what it can do, so it is a name and no sentence."""
_NO_LABEL = frozenset('@:;/\\<>{}[]`"|')
_WHOLE = 2**53
"""Up to here, JSON's numbers are the same everywhere."""

_LAYOUT = re.compile(
    "id|title|slug|url|aliases|image|icon|template|layout|format|hide|hero|banner|head|search|order|weight|prev|next"
    "|sidebar|toc|(?:sidebar|hide|toc|pagination|nav)_.*|displayed_sidebar|parse_number_prefixes|custom_edit_url"
    "|editUrl|pagefind|tableOfContents|has_children|has_toc"
)
"""How the generators of sites (Docusaurus, MkDocs, Hugo, Starlight, Just the Docs) show a page."""


def front_matter_of(
    pages: Iterable[Mapping[str, Any]], *, without: Collection[str] = frozenset()
) -> type[BaseModel] | None:
    """The fields that tell these pages apart, as a model of their front matter; None where there are none.

    A field whose values are few is of just these. The same fields make the same model.

    Args:
        pages: the front matter of each.
        without: fields that are none, whatever they hold.
    """
    left_out = {*OWN, *without}
    count = 0
    held: dict[str, list[list[Any]]] = {}
    for page in pages:
        count += 1
        for name, value in page.items():
            if name not in left_out and (values := values_of(value)):
                held.setdefault(name, []).append(values)
    named = (name for name in held if _NAME.fullmatch(name) and not _LAYOUT.fullmatch(name))
    types = {name: _type_of(held[name], count) for name in named}
    told = sorted((name for name, type_ in types.items() if type_), key=lambda name: (-len(held[name]), name))
    chosen = tuple((name, types[name]) for name in sorted(told[:_FIELDS]))
    return _model(chosen) if chosen else None


def _type_of(held: Sequence[Sequence[Any]], pages: int) -> Any:
    """The type of a field that these pages have, of so many; None where a search cannot be narrowed by it."""
    every = [value for values in held for value in values]
    kinds = {kind_of(value) for value in every}
    if len(kinds) > 1 or "" in kinds:
        return None
    distinct = set(every)
    if len(held) == pages and all(set(values) == distinct for values in held):
        return None
    match kinds.pop():
        case "bool":
            return bool
        case "datetime":
            return date
        case "float":
            return _number(distinct)
        case _:
            are_kinds = len(distinct) * 2 <= len(every)
            return _one_of(distinct) if are_kinds and all(map(_is_label, distinct)) else None


def _number(distinct: set[Any]) -> Any:
    if not all(abs(value) < _WHOLE for value in distinct):  # no number that is none is, either
        return None
    type_ = int if all(isinstance(value, int) for value in distinct) else float
    return _one_of({type_(value) for value in distinct}) or type_


def _one_of(distinct: Collection[Any]) -> Any:
    return cast("Any", Literal)[tuple(sorted(distinct))] if len(distinct) <= _VALUES else None


def _is_label(text: str) -> bool:
    return (
        0 < len(text) <= _LABEL_CHARACTERS
        and text.isprintable()
        and len(text.split()) <= _LABEL_WORDS
        and _NO_LABEL.isdisjoint(text)
    )


@lru_cache(maxsize=128)
def _model(fields: tuple[tuple[str, Any], ...]) -> type[BaseModel]:
    made: dict[str, Any] = {}
    for name, type_ in fields:
        attribute = name.replace("-", "_")
        attribute = f"{attribute}_" if hasattr(BaseModel, attribute) else attribute
        made.setdefault(attribute, (type_ | None, Field(default=None, alias=name)))
    return create_model("FrontMatter", __config__=ConfigDict(protected_namespaces=()), **made)
