"""What a model server can do wrong, and how OpenAI's interfaces say it. Does no IO."""

from dataclasses import dataclass, replace
from typing import Any, Literal

FaultKind = Literal[
    "unauthorized",
    "rate_limited",
    "quota",
    "bad_request",
    "too_long",
    "server_error",
    "overloaded",
    "silent",
    "cut",
    "malformed",
    "incomplete",
    "failed",
    "stalls",
    "huge_delta",
    "error_event",
    "ends_early",
    "ends_twice",
]

HUGE = 10 * 1024 * 1024
"""Characters in the delta of `huge_delta`."""

_REFUSALS: dict[str, tuple[int, str, str | None, str]] = {
    "unauthorized": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    "rate_limited": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "bad_request": (400, "invalid_request_error", None, "The request has a value that does not fit."),
    "too_long": (400, "invalid_request_error", "context_length_exceeded", "The maximum context length is exceeded."),
    "server_error": (500, "server_error", None, "The server had an error while processing your request."),
    "overloaded": (503, "server_error", None, "The engine is currently overloaded."),
}
_EVERYWHERE = {*_REFUSALS, "silent", "cut", "malformed"}
_IN_ANSWERS = {"incomplete", "failed"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Wherever it makes sense, on every interface of the server: `unauthorized` (401), `rate_limited` (429), `quota`
    (429), `bad_request` (400), `too_long` (400), `server_error` (500), `overloaded` (503); `silent` takes the request
    and says nothing, not even a header; `cut` closes the connection; `malformed` is JSON that is none.
    In answers: `incomplete`, the model ran out of tokens; `failed`, the server gave up.
    In streams: `stalls` says nothing more; `huge_delta` has 10 MiB; `error_event`; `ends_early` ends without saying
    that the answer is complete, `ends_twice` says it twice.

    A request that a fault does not concern is served as usual, and the fault is kept for another.
    """

    kind: FaultKind
    after: int | None = None
    """Deltas before it, in a stream; None for all of the answer's."""
    times: int | None = None
    """Requests that it is for; None for all, until another fault or none is set."""
    retry_after: float = 1.0
    """Seconds that `rate_limited` asks to wait."""

    @property
    def refuses(self) -> bool:
        """Whether the request is answered by an error status."""
        return self.kind in _REFUSALS

    def concerns(self, *, answer: bool, streams: bool) -> bool:
        """Whether it can happen to a request for an answer, or for something else, in a stream or as a whole."""
        return self.kind in _EVERYWHERE or (answer and (streams or self.kind in _IN_ANSWERS))

    def rest(self) -> "Fault | None":
        """What is left of it after one more request."""
        if self.times is None:
            return self
        return replace(self, times=self.times - 1) if self.times > 1 else None

    def strikes_at(self, deltas: int) -> int:
        """Before which delta of so many it happens; a number beyond them means never."""
        return deltas if self.after is None or self.kind == "ends_twice" else self.after

    def refusal(self, key: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers of the error; OpenAI quotes the `key` that it does not accept."""
        status, type_, code, message = _REFUSALS[self.kind]
        headers = {"Retry-After": f"{self.retry_after:g}"} if self.kind == "rate_limited" else {}
        return status, error_body(message.format(key=key), type_, code), headers


def error_body(message: str, type_: str = "server_error", code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's interfaces put it into a body."""
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}
