"""`Site`: a course with an address and manners of its own, among several over one store. Plain data; does no IO."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import Forbidden

ExercisePolicy = Literal["hint", "explain", "full"]
"""What a reader gets at an exercise: hints; the ideas and a similar example; or its solution, too."""


_NOTHING_ELSE = {"extra": "forbid"}
"""What pydantic is told where settings are read: a limit that is misspelled would be none."""
_LEAST_TOKENS = 16
"""OpenAI's Responses interface takes no smaller limit, and would refuse every question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one answer may take; what is None is as the server has it.

    Raises:
        ValueError: a limit is so small that there would be no answer at all.
    """

    max_tokens: int | None = None
    """What the model may say each time it is asked, in tokens; what a reasoning model thinks counts, too. 16 or more.
    An answer that comes to its end keeps what was said, and is marked as interrupted."""
    max_turns: int | None = None
    """How often the model may be asked: once, and again each time that it has called tools. The last time it may call
    none, and answers from what it has."""
    run_seconds: float | None = None
    """How long the answer may take, tools and all."""

    __pydantic_config__ = _NOTHING_ELSE

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < _LEAST_TOKENS:
            msg = f"max_tokens is {_LEAST_TOKENS} or more, not {self.max_tokens}: models take no smaller limit"
            raise ValueError(msg)
        if self.max_turns is not None and self.max_turns < 1:
            msg = f"max_turns is 1 or more, not {self.max_turns}: the model must be asked once for an answer"
            raise ValueError(msg)
        if self.run_seconds is not None and not 0 < self.run_seconds < float("inf"):
            msg = f"run_seconds is a number of seconds above 0, not {self.run_seconds}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How one course is answered from; what is not said here is as the server has it."""

    url: str = ""
    """Its public address. A thread that begins on a page below it is about this site; pages elsewhere do not count."""
    language: str = ""
    """The tag of its language (`de`), for what the chat itself says to readers whose browser names none."""
    answer_language: str = ""
    """The language that every answer is in, by its name; that of the question without it."""
    instructions: str = ""
    """What the model is told besides."""
    model: str = ""
    """One of the server's `models`, by its name there."""
    tutor: Literal["explain", "hint"] = "explain"
    """Whether questions are answered, or the reader is led to the answer in steps."""
    exercises: Mapping[str, ExercisePolicy] = field(default_factory=dict[str, ExercisePolicy])
    """Paths of exercises (`/module-*/exercises/*`) -> what a reader gets there; the first that fits counts."""
    off_topic: Literal["decline", "answer"] = "decline"
    """What becomes of questions that the course does not cover."""
    budget: Budget = Budget()
    """What one of its answers may take, also one of an agent that the server's own code gives."""

    __pydantic_config__ = _NOTHING_ELSE

    def exercise_at(self, path: str) -> ExercisePolicy:
        """The policy for the page at `path`; `full` where it is no exercise."""
        for pattern, policy in self.exercises.items():
            if fnmatchcase(path, pattern):
                return policy
        return "full"

    def holds(self, address: str) -> bool:
        """Whether a page is the site's own; one without a host of its own is, and a site without an address has all."""
        if not self.url or not address.startswith(("http://", "https://")):
            return True
        return _is_below(address, self.url)


FindSite = Callable[[str], Awaitable[Site | None]]
"""The site of a name; None where there is none."""


class Sites:
    """All sites of a server."""

    def __init__(self, sites: Mapping[str, Site] | FindSite | None = None) -> None:
        self._are_told_apart = sites is not None
        self._named: Mapping[str, Site] = sites if isinstance(sites, Mapping) else {}
        self._find = None if isinstance(sites, Mapping) else sites

    async def find(self, context: RequestContext, kept: str) -> tuple[str, Site]:
        """Which site a turn is about, by its name, and the site; no name where there is nothing to tell them apart.

        The one that the thread is about (`kept`) stays. A new thread is about the one that the request names, else the
        one that the open page is below, the longest address first; else the only one.

        Raises:
            Forbidden: it is not open to the reader.
        """
        if not self._are_told_apart:
            return "", Site()
        name = kept or context.site or self._by_page(context) or self._only(context.principal)
        allowed = context.principal.sites
        if name and allowed is not None and name not in allowed:
            raise Forbidden("this site is not open to you", details={"site": name})
        found = await self._find(name) if self._find and name else self._named.get(name)
        return name, found or Site()

    def _by_page(self, context: RequestContext) -> str:
        address = context.page.url if context.page else ""
        fitting = [
            (len(site.url), name) for name, site in self._named.items() if site.url and _is_below(address, site.url)
        ]
        return max(fitting, default=(0, ""))[1]

    def _only(self, principal: Principal) -> str:
        open_ = [name for name in self._named if principal.sites is None or name in principal.sites]
        return open_[0] if len(open_) == 1 else ""


def _is_below(address: str, url: str) -> bool:
    base = url.rstrip("/")
    return address == base or address.startswith((f"{base}/", f"{base}?", f"{base}#"))
