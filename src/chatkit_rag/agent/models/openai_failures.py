"""Why a model gave no answer, out of the errors of OpenAI's own client. Does no IO."""

from collections.abc import Callable
from typing import Any, cast

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, OpenAIError

from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed, failure, retry_after_of


def failure_of(exc: OpenAIError, clean: Callable[[str], str]) -> ResponseFailed:
    """The failure that `exc` tells of.

    `clean` takes the key out of the server's words. Raise it `from` its own cause: `exc` may quote the key.
    """
    if isinstance(exc, APIStatusError):
        return failure(_said(exc), clean, status=exc.status_code, retry_after=retry_after_of(exc.response.headers))
    if isinstance(exc, APIError) and not isinstance(exc, APIConnectionError):
        return failure(_said(exc), clean)
    if isinstance(exc, APITimeoutError):
        failed = ResponseFailed("the model server did not answer in time", reason=FailureReason.TIMEOUT)
    else:
        failed = ResponseFailed(
            f"the model server cannot be reached, or cut the answer off: {type(exc).__name__}",
            reason=FailureReason.UNAVAILABLE,
        )
    failed.__cause__ = exc
    return failed


def _said(exc: APIError) -> dict[str, Any] | str:
    body: Any = exc.body
    return cast("dict[str, Any]", body) if isinstance(body, dict) else exc.message
