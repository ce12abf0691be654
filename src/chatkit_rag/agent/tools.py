"""What the model can do: search the course, read a page of it, see how it is organised, look a library up, cite.

Each tool is of use in any agent of the Agents SDK. In an agent whose context is a `TurnContext` it searches as the
reader who asks, and its passages are numbered among those of the turn; elsewhere it sees what everybody sees, and
numbers from 1 in each output.

What a tool gives is data: JSON, so that nothing in a passage can end it, bounded in size, and a failure is told in
words of ours.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, cast

import orjson
from agents import FunctionTool, RunContextWrapper, function_tool
from agents.exceptions import ModelBehaviorError
from pydantic import BaseModel, Field

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.narrowing import Narrowing, narrowing_by
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Hit, LibraryPassage, Passage, excerpt, first_within
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.sources.library_docs import SWITCH, LibraryDocsSource

_log = logging.getLogger(__name__)

SEARCH_COURSE = "search_course"
"""The tool's name: the instructions use it, and retrieval first appears under it."""
READ_PAGE = "read_course_page"
OUTLINE = "course_outline"
LIBRARY_DOCS = "library_docs"
CITE = "cite_course"

_ANYBODY = RequestContext(principal=Principal("agent"))
_PAGE_CHARACTERS = 20_000
"""Of a page that is read; the headings of the rest are named."""
_OUTLINE_PAGES = 150
_NUMBERED_PAGES = 40
"""So many pages of an outline can be cited; of more, only titles and paths are given."""
_HEADINGS = 40
_MOST_PASSAGES = 20


def search_tool(
    source: Source,
    *,
    name: str = SEARCH_COURSE,
    limit: int | None = None,
    fields: type[BaseModel] | None = None,
) -> FunctionTool:
    """A tool that searches `source` and numbers what it finds.

    Where `source` is a course, the model may narrow the search by `fields` of its front matter: never beyond what the
    reader may see. None takes what the course was given (`CourseSource(fields=…)`); what its pages have in common is
    `await source.front_matter(reader)`. `limit` (1 to 20 passages) None leaves their number to the source.
    """
    if limit is not None and not 1 <= limit <= _MOST_PASSAGES:
        msg = f"a search gives 1 to {_MOST_PASSAGES} passages, not {limit}"
        raise ValueError(msg)
    if isinstance(source, CourseSource) and (fields := fields or source.fields):
        return _narrowing_search_tool(source, narrowing_by(fields), name, limit)

    @function_tool(name_override=name, failure_error_function=_failed)
    async def search(
        context: RunContextWrapper[Any],
        query: Annotated[str, Field(description="What to look for, in the course's own terms", max_length=500)],
    ) -> str:
        """Searches the pages of the course. Returns numbered passages; cite them by their numbers."""
        found = await source.search(query, _reader(context), limit=limit)
        return numbered(found.hits, _numbering(context))

    return search


def _narrowing_search_tool(
    source: CourseSource, narrowing: type[Narrowing], name: str, limit: int | None
) -> FunctionTool:
    @function_tool(name_override=name, failure_error_function=_failed)
    async def search(
        context: RunContextWrapper[Any],
        query: Annotated[str, Field(description="What to look for, in the course's own terms", max_length=500)],
        only: Annotated[narrowing | None, Field(description="Only in pages of this kind")] = None,  # type: ignore[valid-type] - made from the course's fields
    ) -> str:
        """Searches the pages of the course. Returns numbered passages; cite them by their numbers."""
        where = cast("Narrowing", only).to_filter() if only is not None else None
        found = await source.search(query, _reader(context), limit=limit, where=where)
        return numbered(found.hits, _numbering(context))

    return search


def read_page_tool(source: CourseSource, *, name: str = READ_PAGE) -> FunctionTool:
    """A tool that gives a page of the course whole, or what stands under one of its headings."""

    @function_tool(name_override=name, failure_error_function=_failed)
    async def read_page(
        context: RunContextWrapper[Any],
        passage: Annotated[int | None, Field(description="The number of a passage that is on the page")],
        path: Annotated[str | None, Field(description="Or the page's path", max_length=500)],
        heading: Annotated[str | None, Field(description="Only what stands under this heading", max_length=300)],
    ) -> str:
        """Reads a page of the course, or a section of it. Returns numbered passages; cite them by their numbers."""
        known = _known(passage, context)
        wanted = (path or "").strip() if passage is None else known.path if known else ""
        chosen = await _read(source, wanted, heading, _reader(context))
        if isinstance(chosen, dict):
            return _dump(chosen)
        shown = first_within(chosen, _PAGE_CHARACTERS)
        hits = [Hit(passage=one, score=1.0) for one in shown]
        left_out = {"left_out": _headings(chosen[len(shown) :])} if len(shown) < len(chosen) else {}
        return _dump({"path": shown[0].path, **_passages(hits, _numbering(context)), **left_out})

    return read_page


def outline_tool(source: CourseSource, *, name: str = OUTLINE) -> FunctionTool:
    """A tool that lists the course's pages in their order, by module and week where the course has them."""

    @function_tool(name_override=name, failure_error_function=_failed)
    async def outline(
        context: RunContextWrapper[Any],
        module: Annotated[int | None, Field(description="Only the pages of this module")],
        week: Annotated[int | None, Field(description="Only the pages of this week")],
    ) -> str:
        """Lists the pages of the course, with their modules, weeks and headings. Cite a page by its number."""
        records = sorted(await source.pages(_reader(context)), key=_place)
        asked = {"module": module, "week": week}
        chosen = [
            record
            for record in records
            if all(value is None or record.document.metadata.get(field) == value for field, value in asked.items())
        ]
        number_of = _numbering(context) if len(chosen) <= _NUMBERED_PAGES else None
        pages = [_listed(record, number_of) for record in chosen[:_OUTLINE_PAGES]]
        left_out = {"left_out": len(chosen) - len(pages)} if len(chosen) > len(pages) else {}
        return _dump({"pages": pages, **left_out})

    return outline


def library_docs_tool(source: LibraryDocsSource, *, name: str = LIBRARY_DOCS) -> FunctionTool:
    """A tool that looks into the documentation of a library that the course uses, and numbers what it finds."""

    @function_tool(name_override=name, failure_error_function=_failed)
    async def library_docs(
        context: RunContextWrapper[Any],
        library: Annotated[str, Field(description="The library's name", max_length=100)],
        question: Annotated[str, Field(description="What to look up: one matter, in a sentence", max_length=500)],
    ) -> str:
        """Looks into a library's own documentation. Returns numbered passages; cite them by their numbers."""
        reader = _reader(context)
        if reader.metadata.get(SWITCH) is False:
            return _dump({"error": "the reader wants no documentation of libraries in this answer", "passages": []})
        known = source.named_in(library)
        if known is None:
            return _dump({"error": "the course does not use this library", "libraries": source.libraries})
        found = await source.look_up(known, question, reader)
        return numbered(found.hits, _numbering(context))

    return library_docs


def cite_tool(source: CourseSource, *, name: str = CITE) -> FunctionTool:
    """A tool that tells how a passage is cited: title, headings, address with its anchor, and how it begins.

    A passage is named by its number in the turn, where the agent's context is a `TurnContext`, or by a page of the
    course that the reader may see, and a heading there.

    `RagChatServer` does not have it by itself: there a passage is cited by its number, and the chat makes the link; a
    tool that is seldom needed is paid for with every request. Give it where answers hold addresses in their text, or to
    an agent whose answers nobody reads citations out of.
    """

    @function_tool(name_override=name, failure_error_function=_failed)
    async def cite(
        context: RunContextWrapper[Any],
        passage: Annotated[int | None, Field(description="The number of a passage")],
        path: Annotated[str | None, Field(description="Or a page's path", max_length=500)],
        heading: Annotated[str | None, Field(description="A heading of that page", max_length=300)],
    ) -> str:
        """Tells how a passage is cited: page, headings, address, and how it begins. Changes nothing."""
        if passage is not None:
            known = _known(passage, context)
            return _dump(_cited(known, passage) if known else {"error": f"no passage here has the number {passage}"})
        chosen = await _read(source, (path or "").strip(), heading, _reader(context))
        if isinstance(chosen, dict):
            return _dump(chosen)
        exact = [one for one in chosen if one.heading.casefold() == (heading or "").casefold()]
        found = (exact or chosen)[0]
        return _dump(_cited(found, _numbering(context)(found)))

    return cite


def numbered(hits: Sequence[Hit], number_of: Callable[[Passage], int]) -> str:
    """The passages as the model gets them, each with its number."""
    return _dump(_passages(hits, number_of))


def _passages(hits: Sequence[Hit], number_of: Callable[[Passage], int]) -> dict[str, Any]:
    best = max((hit.score for hit in hits), default=1.0) or 1.0  # a source need not score at all
    passages = [
        {
            **_named(hit.passage, number_of(hit.passage)),
            "relevance": round(hit.score / best, 2),
            "text": hit.text,
        }
        for hit in hits
    ]
    return {"passages": passages}


def _cited(passage: Passage, number: int) -> dict[str, Any]:
    return {**_named(passage, number), "url": passage.url, "excerpt": excerpt(passage.text)}


def _named(passage: Passage, number: int) -> dict[str, Any]:
    library = {"library": passage.library} if isinstance(passage, LibraryPassage) else {}
    return {"number": number, "page": passage.title, "heading": " > ".join(passage.heading_path), **library}


def _dump(output: dict[str, Any]) -> str:
    return orjson.dumps(output).decode()


def _failed(_context: RunContextWrapper[Any], exc: Exception) -> str:
    """What the model is told of a failure; the log has the rest, and the next call tries again."""
    if isinstance(exc, ModelBehaviorError):  # of the arguments; what was wrong with them, the SDK keeps to itself
        return _dump({"error": "the arguments do not fit the tool's schema: take values that it lists", "passages": []})
    _log.warning("a tool failed: %s", type(exc).__name__, exc_info=exc)
    return _dump({"error": "the course cannot be read at the moment", "passages": []})


def _reader(context: RunContextWrapper[Any]) -> RequestContext:
    turn = context.context
    return turn.request_context if isinstance(turn, TurnContext) else _ANYBODY


def _numbering(context: RunContextWrapper[Any]) -> Callable[[Passage], int]:
    """The turn's numbers; else from 1, and the same passage keeps its own."""
    turn = context.context
    if isinstance(turn, TurnContext):
        return turn.cite
    numbers: dict[str, int] = {}
    return lambda passage: numbers.setdefault(passage.id, len(numbers) + 1)


def _known(number: int | None, context: RunContextWrapper[Any]) -> Passage | None:
    """The passage that has the number in this turn."""
    turn = context.context
    known = turn.passages if isinstance(turn, TurnContext) else []
    return known[number - 1] if number is not None and 1 <= number <= len(known) else None


async def _read(
    source: CourseSource, wanted: str, heading: str | None, reader: RequestContext
) -> list[Passage] | dict[str, Any]:
    """A page of those that the reader may see, or what stands under a heading of it; else what the model is told."""
    records = await source.pages(reader)
    record = next((record for record in records if _is_named(record, wanted)), None)
    if record is None:
        return {"error": f"there is no such page; `{OUTLINE}` lists them"}
    whole = cut_passages(record.document, site=record.site, base_url=record.base_url)
    chosen = [one for one in whole if not heading or heading.casefold() in one.heading.casefold()]
    return chosen or {"error": "the page has no such heading", "headings": _headings(whole)}


def _is_named(record: PageRecord, wanted: str) -> bool:
    """Whether a model that was shown paths, addresses and titles means this page."""
    document = record.document
    path = wanted.removeprefix(record.base_url.rstrip("/")).partition("#")[0]
    named = {path, f"/{path.strip('/')}"}
    return bool(wanted) and (document.path in named or document.address in named or document.title == wanted)


def _headings(passages: Iterable[Passage]) -> list[str]:
    return list(dict.fromkeys(passage.heading for passage in passages))[:_HEADINGS]


def _place(record: PageRecord) -> tuple[Any, ...]:
    """Where a page stands in the course; numbers before what has none."""
    known = [record.document.metadata.get(field) for field in ("module", "week", "sidebar_position")]
    return (*(value if isinstance(value, int | float) else -1 for value in known), record.document.path)


def _listed(record: PageRecord, number_of: Callable[[Passage], int] | None) -> dict[str, Any]:
    document = record.document
    page = {"title": document.title, "path": document.path}
    page |= {field: document.metadata[field] for field in ("module", "week") if field in document.metadata}
    if number_of is None:
        return page
    passages = cut_passages(document, site=record.site, base_url=record.base_url)
    number = {"number": number_of(passages[0])} if passages else {}
    return {**number, **page, "headings": _headings(passages)}
