"""What a turn begins with: what is stored first, what the client is told first, and the hook that makes the answer."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, ThreadStreamEvent

from chatkit_rag.context import RequestContext

Respond = Callable[[ThreadMetadata, RequestContext], AsyncIterator[ThreadStreamEvent]]
"""A hook that makes events, for a thread and in a context which are the turn's."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A turn that may begin: everything that can be checked was checked."""

    thread: ThreadMetadata
    respond: Respond
    is_new: bool = False
    """Whether the thread itself is stored first."""
    files: Sequence[Attachment] = ()
    item: ThreadItem | None = None
    """The reader's message, or the item that they answered."""
    behind: str = ""
    """The id of the item that the answer follows; empty for the newest that there is."""
    known: Sequence[ThreadStreamEvent] = ()
    """Events that do not wait for the answer."""
    replaced: Sequence[ThreadItem] = ()
    """Items that go when the answer begins."""
    history: Sequence[ThreadItem] | None = None
    """The newest items up to the reader's message, newest first; None where they were not looked for."""
