"""Logging: one line a record, with the request that it belongs to, and with no message text of readers in it."""

import logging
import re
from contextvars import ContextVar
from typing import Any

REQUEST_ID: ContextVar[str] = ContextVar("chatkit_rag_request_id", default="-")
"""The request that this code runs for; the task that makes its answer has it, too."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What ends a line, moves a terminal's cursor, or turns the reading direction round."""
_SECRETS = tuple(
    (re.compile(pattern), kept)
    for pattern, kept in (
        (r"(://[^\s/:@]*):[^\s@]+@", r"\1:***@"),  # the password in an address
        (r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}", r"\1 ***"),
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", "***"),  # a JWT
        (r"\bsk-[\w-]{8,}", "sk-***"),  # a key of OpenAI's
        (r"input_value=.*?(?=, input_type=)", "input_value=***"),
    )
)

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
    """A record cannot forge another one, nor tell a secret that some library has put into an exception."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        # A traceback has lines, and its last ones are an exception's own text: indented, none of them is a record.
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escaped(line)}" for line in lines)


def without_secrets(text: str) -> str:
    """The text without what looks like a credential, or like a value that pydantic quotes from what it has refused."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return text


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
