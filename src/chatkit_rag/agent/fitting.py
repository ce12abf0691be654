"""The search tool that fits the course as it is served, and the reader who asks.

What a search can be narrowed by is in the pages, and a tool's schema goes to the model with the question. So the tool
of a turn is chosen when the turn has searched: another generation of the index, or another reader, has another one.
"""

import logging

from agents import Agent, Tool
from pydantic import BaseModel

from chatkit_rag.agent.bounds import ToolBounds, bounded
from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.tools import search_tool
from chatkit_rag.context import RequestContext
from chatkit_rag.errors import IndexError_
from chatkit_rag.memo import Memo
from chatkit_rag.sources.base import Source
from chatkit_rag.sources.course import CourseSource

_log = logging.getLogger(__name__)

_TOOLS = 100
"""That are kept: one for all readers and sites whose pages have the same fields."""


class FittingSearch:
    """Search tools of one source, each made once."""

    def __init__(self, source: Source, bounds: ToolBounds) -> None:
        self._source = source
        self._bounds = bounds
        self._fitted: Memo[type[BaseModel], Tool] = Memo(self._made, most=_TOOLS)
        self.tool = self._made(None)
        """The one that an agent is made with, in whose place another comes."""

    async def fit(self, agent: Agent[TurnContext], context: RequestContext) -> Agent[TurnContext]:
        """`agent`, with the search tool that fits; as it is where there is nothing to fit, or it calls no tools."""
        source = self._source
        if not isinstance(source, CourseSource) or source.fields or isinstance(agent.model, ExtractiveModel):
            return agent
        try:
            fields = await source.front_matter(context)
        except IndexError_ as exc:
            _log.warning("the search cannot be narrowed in this answer: %s", exc)
            return agent
        if fields is None:
            return agent
        return changed(agent, tools=[self._fitted[fields] if tool is self.tool else tool for tool in agent.tools])

    def _made(self, fields: type[BaseModel] | None) -> Tool:
        [tool] = bounded([search_tool(self._source, fields=fields)], self._bounds)
        return tool
