"""What would otherwise be done during the first request.

ChatKit's types name each other before they are defined, and pydantic completes each of them when it is first used.
That takes it ten milliseconds a type.
"""

from chatkit import types
from pydantic import BaseModel


def complete_types() -> None:
    """Completes ChatKit's types; a second call finds nothing to do."""
    for kind in vars(types).values():
        is_theirs = getattr(kind, "__module__", "") == types.__name__
        if is_theirs and isinstance(kind, type) and issubclass(kind, BaseModel) and not kind.__pydantic_complete__:
            kind.model_rebuild()
