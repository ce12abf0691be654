"""Errors as HTTP answers: the only place that knows status codes.

Every error that a client sees, on any route, is `{"code", "message", "details"}`; an exception that nobody meant for
clients becomes a neutral sentence, and its text stays in the log.
"""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from chatkit.store import NotFoundError
from starlette.responses import Response

from chatkit_rag import errors

_log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    # The most specific class first.
    (errors.NotJson, 400),
    (errors.UnknownOperation, 400),
    (errors.InvalidRequest, 422),
    (errors.PayloadTooLarge, 413),
    (errors.UnsupportedMediaType, 415),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.AuthUnavailable, 503),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooManyRequests, 429),
    (errors.ServerStopping, 503),
    (errors.Unsupported, 501),
)

_UNAVAILABLE = {"Retry-After": "5"}


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def problem(status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> Response:
    """An error answer."""
    return json_response({"code": code, "message": message, "details": dict(details or {})}, status)


def problem_of(exc: Exception) -> Response:
    """The answer that an exception becomes."""
    match exc:
        case errors.RequestError():
            status = next((status for kind, status in _STATUS if isinstance(exc, kind)), 400)
            answer = problem(status, exc.code, exc.message, exc.details)
            if status == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            if exc.retry_after is not None:
                answer.headers["Retry-After"] = str(exc.retry_after)
        case NotFoundError():
            answer = problem(404, "not_found", "no such thread, item or attachment")
        case errors.FilesUnavailable():
            _log.error("the readers' files are unavailable: %s", exc)
            answer = problem(503, "files_unavailable", "Files cannot be read or stored right now; try again soon.")
            answer.headers.update(_UNAVAILABLE)
        case errors.StoreUnavailable():
            _log.error("the store is unavailable: %s", exc)
            answer = problem(503, "store_unavailable", "Conversations cannot be read or stored right now.")
            answer.headers.update(_UNAVAILABLE)
        case errors.IndexError_():
            _log.error("the index is unavailable: %s", exc)
            answer = problem(503, "index_unavailable", "The course cannot be searched right now.")
            answer.headers.update(_UNAVAILABLE)
        case _:
            _log.exception("a request failed: %s", type(exc).__name__, exc_info=exc)
            answer = problem(500, "internal_error", "Something went wrong on our side.")
    return answer
