"""Logging: one line a record, with the request that it belongs to, and with no message text of readers in it."""

import logging
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("chatkit_rag_request_id", default="-")
"""The request that this code runs for; the task that makes its answer has it, too."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


def set_up_logging(level: str = "INFO") -> None:
    """Sends this library's records to the standard error stream; for programs of our own, not for hosts."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(_FORMAT))
    handler.addFilter(_with_request_id)
    logger = logging.getLogger("chatkit_rag")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _with_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True


class _OneLine(logging.Formatter):
    """A record's message cannot forge a second record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n").replace("\x1b", "\\x1b")
