"""What readers and operators are told when a turn fails: the reader a sentence, the operator the exception."""

import logging

from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.types import ErrorEvent

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.errors import ModelFailed, RequestError, StoreUnavailable

_log = logging.getLogger(__name__)

_NO_ANSWER = "The language model gave no answer. Please try again."
_OWNER = "The assistant cannot answer at the moment. Please tell the owner of this site."
_TOLD = {
    FailureReason.AUTH: _OWNER,
    FailureReason.QUOTA: _OWNER,
    FailureReason.RATE_LIMITED: "There are too many questions just now. Please try again in a moment.",
    FailureReason.TOO_LONG: "This conversation has grown too long for the language model. Please begin a new one.",
    FailureReason.TIMEOUT: "The language model took too long. Please try again.",
    FailureReason.INCOMPLETE: "The language model stopped before its answer was complete. Please try again.",
    FailureReason.REFUSED: "The language model does not answer this.",
}
_NOT_AGAIN = {FailureReason.AUTH, FailureReason.QUOTA, FailureReason.TOO_LONG, FailureReason.REFUSED}
"""Where asking the same again brings the same."""


class TookTooLong(ModelFailed):
    """The answer was stopped because its time was over."""

    def __init__(self) -> None:
        super().__init__("the answer took longer than it may, and was stopped")


def log_failure(exc: Exception) -> None:
    """What was foreseen is a line; what was not comes with its traceback."""
    if isinstance(exc, ModelFailed | StoreUnavailable | RequestError):
        _log.error("a turn failed: %s", exc)
    else:
        _log.exception("a turn failed: %s", type(exc).__name__, exc_info=exc)


def error_event(exc: Exception) -> ErrorEvent:
    """What the client is told: never an exception's own text, unless it was written for people."""
    match exc:
        case CustomStreamError():
            return ErrorEvent(code="custom", message=exc.message, allow_retry=exc.allow_retry)
        case StreamError():
            return ErrorEvent(code=exc.code, allow_retry=exc.allow_retry)
        case RequestError():
            return ErrorEvent(code="custom", message=exc.message, allow_retry=False)
        case ResponseFailed():
            message = _TOLD.get(exc.reason, _NO_ANSWER)
            return ErrorEvent(code="custom", message=message, allow_retry=exc.reason not in _NOT_AGAIN)
        case TookTooLong():
            message = "The answer took too long and was stopped. Please try again."
        case ModelFailed():
            message = _NO_ANSWER
        case StoreUnavailable():
            message = "The conversation cannot be stored right now. Please try again."
        case _:
            return ErrorEvent(code=ErrorCode.STREAM_ERROR, allow_retry=True)
    return ErrorEvent(code="custom", message=message, allow_retry=True)
