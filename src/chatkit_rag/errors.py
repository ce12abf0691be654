"""Every error that chatkit-rag raises on purpose.

    ChatKitRagError
    ├── ConfigurationError            the installation cannot work as configured
    │   └── MissingExtra              an optional dependency is not installed (also an ImportError)
    ├── IngestionError                nothing could be indexed
    ├── EvaluationError               there is nothing to measure search or answers by
    ├── IndexError_                   the search index cannot be used
    │   ├── IndexMissing              there is no index yet
    │   ├── IndexUnreadable           it is there, and broken or of a newer version
    │   └── IndexUnavailable          the server that holds it does not answer now
    ├── EmbeddingFailed               an embedder gave no vectors that can be used
    ├── RerankingFailed               a reranker gave no scores
    ├── LibraryDocsUnavailable        the documentation of libraries cannot be looked into now
    ├── StoreUnavailable              threads cannot be read or written now
    │   └── FilesUnavailable          readers' files cannot
    ├── ModelFailed                   the language model gave no answer
    └── RequestError                  the client's request cannot be carried out
        ├── InvalidRequest            it is malformed, or holds a value out of bounds
        │   ├── NotJson               it is not a JSON object
        │   ├── UnknownOperation      it names no operation of this server
        │   ├── KeyReused             its idempotency key stands for another request
        │   └── AddressUnknown        it does not say where it was sent to (also a ConfigurationError)
        ├── PayloadTooLarge           the body is over its limit
        ├── UnsupportedMediaType      the body, or a file, is of a kind that is not taken
        ├── Unauthenticated           no valid credential
        ├── Forbidden                 a valid credential that does not reach so far
        ├── AuthUnavailable           the identity could not be checked now
        ├── NotFound                  not there, or not yours: the two look the same
        ├── Conflict                  it does not fit the present state
        │   ├── ThreadBusy            an answer is being written in the thread
        │   ├── TooManyFiles          the reader has as many files as they may
        │   ├── ThreadFull            the thread holds as many messages as it may
        │   ├── TooManyThreads        the reader has as many threads as they may
        │   └── RequestInFlight       the same request is being carried out
        ├── TooManyRequests           the client asks for more than its share
        │   └── TooManyStreams        as many answers as one reader may have are under way
        ├── ServerStopping            no answer is begun any more: the server is about to end
        └── Unsupported               this server was not set up for it

An error says what happened, to what, and what to do next. `RequestError` messages are shown to clients; the
others are for the operator, and a client gets a neutral sentence in their place. HTTP status codes live in
`asgi.problems` alone.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ChatKitRagError(Exception):
    """Base of all errors that chatkit-rag raises on purpose."""


class ConfigurationError(ChatKitRagError):
    """The installation cannot work as configured; the message says what to change."""


class MissingExtra(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message carries the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'chatkit-rag[{extra}]'")


class IngestionError(ChatKitRagError):
    """Nothing could be indexed; the index is as it was before."""


class EvaluationError(ChatKitRagError):
    """There is nothing to measure search or answers by: a file is missing, or not in its format."""


class IndexError_(ChatKitRagError):  # noqa: N801 - `IndexError` is Python's own, and never to be shadowed
    """The search index cannot be used."""


class IndexMissing(IndexError_):
    """There is no index yet."""


class IndexUnreadable(IndexError_):
    """The index is there, and broken or written by a newer version."""


class IndexUnavailable(IndexError_):
    """The server that holds the index does not answer now; trying again later may work."""


class EmbeddingFailed(ChatKitRagError):
    """An embedder gave no vectors that can be used; search goes on by words."""


class RerankingFailed(ChatKitRagError):
    """A reranker gave no scores; what was found stays in its order."""


class LibraryDocsUnavailable(ChatKitRagError):
    """The documentation of libraries cannot be looked into now; the course answers alone."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds for which it is of no use to ask again, where that is known."""


class StoreUnavailable(ChatKitRagError):
    """Threads cannot be read or written now; trying again later may work."""


class FilesUnavailable(StoreUnavailable):
    """Readers' files cannot be read or written now; trying again later may work."""


class ModelFailed(ChatKitRagError):
    """The language model gave no answer."""


class RequestError(ChatKitRagError):
    """The client's request cannot be carried out. Its message and `details` are shown to the client."""

    code: ClassVar[str] = "invalid_request"
    retry_after: ClassVar[int | None] = None
    """Seconds after which the same request may be carried out; None where waiting does not help."""

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details or {}


class InvalidRequest(RequestError):
    """The request is malformed, or holds a value out of bounds."""


class NotJson(InvalidRequest):
    """The body is not a JSON object."""

    code = "not_json"


class UnknownOperation(InvalidRequest):
    """The request names no operation of this server."""

    code = "unknown_operation"


class KeyReused(InvalidRequest):
    """The idempotency key stands for another request."""

    code = "idempotency_key_reused"


class AddressUnknown(ConfigurationError, InvalidRequest):
    """It is not known under which address clients reach this server: none is set, and the request names no host."""


class PayloadTooLarge(RequestError):
    """The body is over its limit."""

    code = "payload_too_large"


class UnsupportedMediaType(RequestError):
    """The body, or a file, is of a kind that is not taken."""

    code = "unsupported_media_type"


class Unauthenticated(RequestError):
    """No valid credential came with the request."""

    code = "unauthenticated"


class Forbidden(RequestError):
    """The credential is valid and does not reach so far."""

    code = "forbidden"


class AuthUnavailable(RequestError):
    """The identity could not be checked now; trying again later may work."""

    code = "auth_unavailable"


class NotFound(RequestError):
    """What was asked for is not there, or belongs to somebody else: the two look the same."""

    code = "not_found"


class Conflict(RequestError):
    """The request does not fit the present state."""

    code = "conflict"


class ThreadBusy(Conflict):
    """An answer is being written in the thread; the next message may follow when it is complete."""

    code = "thread_busy"


class TooManyFiles(Conflict):
    """The reader has as many files as they may; another can be attached when some were deleted."""

    code = "too_many_files"


class ThreadFull(Conflict):
    """The thread holds as many messages as it may; a new one can be begun."""

    code = "thread_full"


class TooManyThreads(Conflict):
    """The reader has as many threads as they may; another can be begun when one was deleted."""

    code = "too_many_threads"


class RequestInFlight(Conflict):
    """The same request is being carried out; its outcome can be asked for when it is."""

    code = "request_in_flight"


class TooManyRequests(RequestError):
    """The client asks for more than its share; it may ask again later."""

    code = "too_many_requests"
    retry_after = 5


class TooManyStreams(TooManyRequests):
    """As many answers as one reader may have are under way; another may begin when one of them has ended."""

    code = "too_many_streams"


class ServerStopping(RequestError):
    """No answer is begun any more, since the server is about to end; whatever takes its place will answer."""

    code = "server_stopping"
    retry_after = 5


class Unsupported(RequestError):
    """This server was not set up for what is asked."""

    code = "unsupported"
