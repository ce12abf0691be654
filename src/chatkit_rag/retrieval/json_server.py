"""A server that answers JSON with JSON: embeddings and rerankers over HTTP, with a bound on every wait."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import stamina

from chatkit_rag.errors import ChatKitRagError

_log = logging.getLogger(__name__)

_PASSING = {408, 409, 425, 429}
"""Statuses that may be different the next time; those from 500 on are too."""
_WORDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """How long to wait, and how often to try; times in seconds."""

    connect_seconds: float = 5.0
    total_seconds: float = 60.0
    """One request, from its beginning to the end of its answer."""
    attempts: int = 5
    retry_wait_seconds: float = 0.5
    """Before the second attempt, doubled for each further one, with as much jitter again."""
    retry_after_seconds: float = 30.0
    """The longest wait that a server's Retry-After is granted."""


class _Unanswered(Exception):
    """An attempt that failed."""

    def __init__(self, why: str, *, passing: bool, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.passing = passing
        self.retry_after = retry_after


class JsonServer:
    """POSTs JSON to one address. Made without IO; the connection is opened by the first request."""

    def __init__(
        self,
        url: str,
        *,
        what: str,
        failure: type[ChatKitRagError],
        api_key: str = "",
        options: RequestOptions | None = None,
    ) -> None:
        """A server that errors call `what`, and whose failures are raised as `failure`."""
        self.name = f"{what} at {urlsplit(url).hostname}"
        self._url = url
        self._failure = failure
        self._api_key = api_key
        self._options = options or RequestOptions()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, body: dict[str, Any], *, retry: bool = True) -> Any:
        """The answer to `body`. Raises `failure` where there is none, after all attempts that were granted."""
        options = self._options
        trying = stamina.retry_context(
            on=self._wait_before_retry,
            attempts=options.attempts if retry else 1,
            timeout=None,
            wait_initial=options.retry_wait_seconds,
            wait_max=options.retry_after_seconds,
            wait_jitter=options.retry_wait_seconds,
        )
        why = ""
        try:
            async for attempt in trying:
                if why:
                    _log.warning("%s %s; it is asked again, %d of %d", self.name, why, attempt.num, options.attempts)
                with attempt:
                    try:
                        return await self._post_once(body)
                    except _Unanswered as exc:
                        why = str(exc)
                        raise
        except _Unanswered as exc:
            raise self._failure(f"{self.name} {exc}") from exc.__cause__
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Closes the connection; a later request opens another."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _post_once(self, body: dict[str, Any]) -> Any:
        try:
            async with self._connected().post(self._url, data=orjson.dumps(body)) as response:
                content = await response.read()
                if response.status >= 400:
                    raise self._refusal(response, content)
                return orjson.loads(content)
        except TimeoutError as exc:
            raise _Unanswered("did not answer in time", passing=True) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _Unanswered(f"cannot be reached: {exc}", passing=True) from exc
        except orjson.JSONDecodeError as exc:
            said = "gave no JSON, but a page or NaN: check its address and its model"
            raise _Unanswered(said, passing=False) from exc

    def _connected(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            headers = {"Content-Type": "application/json"}
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
            timeout = aiohttp.ClientTimeout(
                total=self._options.total_seconds, sock_connect=self._options.connect_seconds
            )
            self._session, self._loop = aiohttp.ClientSession(headers=headers, timeout=timeout), loop
        return self._session

    def _refusal(self, response: aiohttp.ClientResponse, content: bytes) -> _Unanswered:
        said = " ".join(content[: 4 * _WORDS].decode(errors="replace").split())[:_WORDS]
        if self._api_key:
            said = said.replace(self._api_key, "…")
        passing = (response.status in _PASSING or response.status >= 500) and "insufficient_quota" not in said
        why = f"answered {response.status}: {said}"
        return _Unanswered(why, passing=passing, retry_after=_seconds(response.headers.get("Retry-After", "")))

    def _wait_before_retry(self, error: Exception) -> bool | float:
        if not isinstance(error, _Unanswered) or not error.passing:
            return False
        if error.retry_after is None:
            return True
        return min(error.retry_after, self._options.retry_after_seconds)


def _seconds(value: str) -> float | None:
    try:
        return max(0.0, float(value))
    except ValueError:
        return None  # a date, or nothing: the wait is ours
