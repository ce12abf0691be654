"""What is searched for a message: its own words, and those that it refers to. Pure.

"And in Python?" says too little to find anything, so it is searched together with the question before it. Whether a
message goes on from another is told by how it begins and how short it is, in the languages of the tables below; no
model is asked. A question that stands for itself is searched as it is, wherever in a conversation it is asked.
"""

import re
from collections.abc import Iterable

from chatkit.types import UserMessageItem

from chatkit_rag.agent.history import written_by

_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W_]+)*")

_EXCERPT = 400
"""Characters of a selected text that are searched, behind the question about it."""
_LONG = 1_000
"""Characters from which on a message holds something that was pasted. Its first line and its last are searched: there
stand what its reader wants, and what a program said in the end."""
_LINE = 400
"""Characters of such a line."""


def _table(text: str) -> frozenset[str]:
    return frozenset(entry.strip() for entry in text.split("|"))


_OPENINGS = (
    6,
    _table(
        "and|or|but|also|what about|how about|und|oder|aber|auch|was ist mit|wie ist es mit|et|ou|mais|y|o|pero|qué tal"
    ),
)
"""How a message begins that goes on, and the most words that it has."""
_PREPOSITIONS = 4, _table("in|with|without|for|on|using|mit|ohne|für|auf|bei|en|avec|sans|pour|dans|con|sin|para")
"""Likewise, where nothing stands before them that they could belong to."""
_REFERRING = (
    5,
    _table("it|its|that|this|those|these|them|they|again|davon|damit|dafür|dazu|daran|darin|ça|cela|eso|esto"),
)
"""Words for what was named before, anywhere in a message that is as short as this."""
_WHOLE = _table(
    "why|how|how so|how come|more|tell me more|go on|continue|example|an example|for example|give me an example|simpler"
    "|warum|wieso|weiter|beispiel|ein beispiel|zum beispiel|pourquoi|comment|un exemple|por qué|cómo|un ejemplo"
)
"""Messages that say nothing of their own."""


def search_query(newest_first: Iterable[UserMessageItem]) -> str:
    """What to search for the newest of a reader's messages: behind the one that it goes on from, where it does."""
    asked, *earlier = [_query(message) for message in newest_first] or [""]
    if not goes_on(asked):
        return asked
    before = next((query for query in earlier if query and not goes_on(query)), "")
    return f"{before}\n{asked}" if before else asked


def goes_on(text: str) -> bool:
    """Whether a message cannot be understood without the one before it, as far as its form tells."""
    words = _WORD.findall(text.lower())
    said = " ".join(words)
    return (
        said in _WHOLE
        or any(
            len(words) <= most and f"{said} ".startswith(tuple(f"{entry} " for entry in table))
            for most, table in (_OPENINGS, _PREPOSITIONS)
        )
        or (len(words) <= _REFERRING[0] and not _REFERRING[1].isdisjoint(words))
    )


def _query(message: UserMessageItem) -> str:
    excerpt = (message.quoted_text or "")[:_EXCERPT]
    return "\n".join(filter(None, (_topic(written_by(message)), excerpt)))


def _topic(text: str) -> str:
    if len(text) <= _LONG:
        return text
    lines = text.splitlines()
    return f"{lines[0][:_LINE]}\n{lines[-1][-_LINE:]}"
