"""What the model can do: search the course."""

from collections.abc import Sequence
from typing import Annotated

import orjson
from agents import FunctionTool, RunContextWrapper, function_tool
from pydantic import Field

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.documents import Hit
from chatkit_rag.sources.base import Source

SEARCH_COURSE = "search_course"
"""The tool's name: the instructions use it, and retrieval first appears under it."""


def search_tool(source: Source) -> FunctionTool:
    """A tool that searches `source` and numbers what it finds among the turn's passages."""

    @function_tool(name_override=SEARCH_COURSE)
    async def search(
        context: RunContextWrapper[TurnContext],
        query: Annotated[str, Field(description="What to look for, in the course's own terms", max_length=500)],
    ) -> str:
        """Searches the pages of the course. Returns numbered passages; cite them by their numbers."""
        found = await source.search(query, context.context.request_context)
        return numbered(found.hits, context.context)

    return search


def numbered(hits: Sequence[Hit], turn: TurnContext) -> str:
    """The passages as the model gets them: JSON, so that nothing in a passage can end it, each with its number."""
    best = max((hit.score for hit in hits), default=1.0) or 1.0  # a source need not score at all
    passages = [
        {
            "number": turn.cite(hit.passage),
            "page": hit.passage.title,
            "heading": " > ".join(hit.passage.heading_path),
            "relevance": round(hit.score / best, 2),
            "text": hit.text,
        }
        for hit in hits
    ]
    return orjson.dumps({"passages": passages}).decode()
