"""Why a model gave no answer: what servers say of it, in one form. Does no IO."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, cast

from chatkit_rag.context import utc_now
from chatkit_rag.errors import ModelFailed

_WORDS = 500
_CODE = re.compile(r"[\w.-]{1,64}")


class FailureReason(StrEnum):
    """Why a model gave no answer, as far as somebody can do something about it."""

    AUTH = "auth"
    """The key is missing, wrong, or not allowed to use the model."""
    RATE_LIMITED = "rate_limited"
    """Too many requests or tokens just now."""
    QUOTA = "quota"
    """The account's money or allowance is used up; waiting does not help."""
    TOO_LONG = "too_long"
    """The conversation does not fit into the model's context."""
    UNAVAILABLE = "unavailable"
    """The server could not be reached, failed, or cut the answer off."""
    TIMEOUT = "timeout"
    """It took longer than the options allow."""
    MALFORMED = "malformed"
    """What came is not the interface that was asked for."""
    INCOMPLETE = "incomplete"
    """The model stopped at its limit of tokens."""
    REFUSED = "refused"
    """The server does not take this request, or its filter stopped the answer."""


_BY_CODE = {
    "invalid_api_key": FailureReason.AUTH,
    "rate_limit_exceeded": FailureReason.RATE_LIMITED,
    "insufficient_quota": FailureReason.QUOTA,
    "billing_hard_limit_reached": FailureReason.QUOTA,
    "context_length_exceeded": FailureReason.TOO_LONG,
    "server_error": FailureReason.UNAVAILABLE,
    "max_output_tokens": FailureReason.INCOMPLETE,
    "length": FailureReason.INCOMPLETE,
    "content_filter": FailureReason.REFUSED,
}
_BY_STATUS = {
    401: FailureReason.AUTH,
    403: FailureReason.AUTH,
    408: FailureReason.UNAVAILABLE,
    409: FailureReason.UNAVAILABLE,
    413: FailureReason.TOO_LONG,
    429: FailureReason.RATE_LIMITED,
}
_SENTENCES = {
    FailureReason.AUTH: "the model server did not accept the API key: check the key and what it may use",
    FailureReason.RATE_LIMITED: "the model server takes no more requests just now: wait, or raise the account's limits",
    FailureReason.QUOTA: "the account at the model server is used up: check its plan and billing",
    FailureReason.TOO_LONG: "the conversation is too long for the model: send less of it, or choose another model",
    FailureReason.UNAVAILABLE: "the model server failed: try again",
    FailureReason.INCOMPLETE: "the model stopped at its limit of tokens: raise `max_tokens`",
    FailureReason.REFUSED: "the model server does not answer this request: check the model's name and settings",
}


class ResponseFailed(ModelFailed):
    """A response that did not come to its end. Its message is for the operator and quotes nobody."""

    # openai-agents 0.24 raises a failure before the events that it had already queued, and so loses the last words in
    # front of it, unless the failure bears this mark, which its own ones of this kind do (`agents.exceptions`).
    _agents_drain_queued_stream_events = True

    def __init__(self, message: str, *, reason: FailureReason, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds that the server asked to wait; None where it said nothing."""


class ServerSaid(Exception):
    """The server's own words about a failure, cut short and without the key: for logs, not for readers."""


def failure(
    event: Mapping[str, Any] | str,
    clean: Callable[[str], str],
    *,
    status: int | None = None,
    retry_after: float | None = None,
) -> ResponseFailed:
    """The failure that a server told of, in an answer to the request or in the stream, with its words as the cause."""
    error = _error_in(event)
    code = next((value for key in ("code", "reason", "type") if (value := error.get(key)) in _BY_CODE), None)
    if code is not None:
        reason = _BY_CODE[code]
    elif status is not None:
        reason = _BY_STATUS.get(status, FailureReason.UNAVAILABLE if status >= 500 else FailureReason.REFUSED)
    else:
        reason = FailureReason.UNAVAILABLE
    details = [f"HTTP {status}"] if status else []
    said = error.get("code") or error.get("reason")
    if isinstance(said, str) and _CODE.fullmatch(said):
        details.append(said)
    failed = ResponseFailed(
        _SENTENCES[reason] + (f" ({', '.join(details)})" if details else ""), reason=reason, retry_after=retry_after
    )
    failed.__cause__ = ServerSaid(clean(str(error.get("message") or ""))[:_WORDS])
    return failed


def _error_in(event: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """What describes the failure: servers put it at the top, under `error`, or into the response."""
    if isinstance(event, str):
        return {"message": event}
    for holder in (event.get("response"), event):
        if isinstance(holder, dict):
            known = cast("dict[str, Any]", holder)
            for key in ("error", "incomplete_details"):
                if isinstance(known.get(key), dict):
                    return known[key]
                if isinstance(known.get(key), str):
                    return {"message": known[key]}
    return event


def malformed() -> ResponseFailed:
    """The failure of a server that speaks something else."""
    return ResponseFailed(
        "the model server does not speak the interface that it is asked by", reason=FailureReason.MALFORMED
    )


def raise_where_declined(parts: Iterable[str]) -> None:
    """Looks at the kinds of a message's parts.

    Raises:
        ResponseFailed: they are refusals, and nothing else: the model says no in the interface's own way.
    """
    if set(parts) == {"refusal"}:
        raise ResponseFailed("the model declined to answer", reason=FailureReason.REFUSED)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from either form of the header."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - utc_now()).total_seconds())
