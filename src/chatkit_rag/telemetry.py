"""Logging: one line a record, with no message text of readers in it."""

import logging

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up_logging(level: str = "INFO") -> None:
    """Sends this library's records to the standard error stream; for programs of our own, not for hosts."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(_FORMAT))
    logger = logging.getLogger("chatkit_rag")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


class _OneLine(logging.Formatter):
    """A record's message cannot forge a second record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n").replace("\x1b", "\\x1b")
