"""What one turn carries along: who asks, the thread, and the passages that it may cite."""

import asyncio
import re
from typing import Any

from chatkit.agents import AgentContext
from pydantic import Field, PrivateAttr

from chatkit_rag.context import PageContext, Principal, RequestContext
from chatkit_rag.documents import Passage
from chatkit_rag.sites import Budget

_ADDRESS = re.compile(r"(?:https?|ftp)://[^\s<>\"'`)\]]+|www\.[^\s<>\"'`)\]]+", re.IGNORECASE)


class TurnContext(AgentContext[RequestContext]):
    """ChatKit's agent context, which tools of a site's own get too, with what a course adds."""

    passages: list[Passage] = Field(default_factory=list[Passage])
    """Every passage of the turn; the first is number 1."""

    links: set[str] = Field(default_factory=set[str])
    """Addresses that the answer may hold besides those of the passages: tools of a site's own add theirs."""

    budget: Budget = Budget()
    """What the answer may take, as its site has it."""

    # ChatKit's default is one queue, of which pydantic makes a deep copy each time.
    _events: asyncio.Queue[Any] = PrivateAttr(default_factory=asyncio.Queue[Any])

    tool_calls: int = 0
    """How many tools were called so far."""

    @property
    def told(self) -> asyncio.Queue[Any]:
        """What tools tell the reader by themselves (`stream`, `stream_widget`, workflows), in its order."""
        return self._events

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.request_context.principal

    @property
    def page(self) -> PageContext | None:
        """The page that they have in front of them, where the browser told it."""
        return self.request_context.page

    @property
    def site(self) -> str | None:
        """The course that the thread is about."""
        return self.request_context.site

    def cite(self, passage: Passage) -> int:
        """The number to cite `passage` by in this turn; the same passage keeps its number."""
        for number, known in enumerate(self.passages, start=1):
            if known.id == passage.id:
                return number
        self.passages.append(passage)
        return len(self.passages)

    def knows(self, address: str) -> bool:
        """Whether an answer may hold `address`: it is a passage's, stands in one, or is among `links`."""
        return address in self.links or any(
            address in (passage.url, passage.url.partition("#")[0])
            or any(address == found[0].rstrip(".,;:!?*_~") for found in _ADDRESS.finditer(passage.text))
            for passage in self.passages
        )
