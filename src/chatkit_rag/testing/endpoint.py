"""One ChatKit endpoint over HTTP: what is sent to it, and what it may answer. `ProtocolClient` says what to send."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import httpx
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkit_rag.testing.frames import ProtocolViolation, complaint, shown
from chatkit_rag.testing.streamed_answer import StreamedAnswer

Answered = TypeVar("Answered")


class Refused(Exception):
    """The server refused a request: it answered 400 or above."""

    def __init__(self, response: httpx.Response) -> None:
        """The refusal that `response`, read to its end, is."""
        body = _json_object(response)
        self.status: int = response.status_code
        """The HTTP status."""
        self.code: str = _text(body.get("code"))
        """What kind of refusal it is; empty where the body does not say."""
        self.message: str = _text(body.get("message")) or _text(body.get("detail")) or response.text
        """The sentence for people, or else the body's text."""
        details: Any = body.get("details")
        self.details: Mapping[str, Any] = cast("dict[str, Any]", details) if isinstance(details, dict) else {}
        """What else the body says."""
        self.response: httpx.Response = response
        """The response itself."""
        super().__init__(" ".join(part for part in (str(self.status), self.code, self.message) if part))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests go, and what goes with each."""

    http: httpx.AsyncClient
    url: str
    headers: httpx.Headers = field(default_factory=lambda: httpx.Headers({"Content-Type": "application/json"}))
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def adding(self, headers: Mapping[str, str], metadata: Mapping[str, Any]) -> "Endpoint":
        """The endpoint, with this sent besides, or instead."""
        merged = httpx.Headers(self.headers)
        merged.update(headers)
        return replace(self, headers=merged, metadata={**self.metadata, **metadata})

    async def send(self, body: bytes) -> httpx.Response:
        """The answer to any bytes, read to its end."""
        return await self.http.post(self.url, content=body, headers=self.headers)

    async def call(self, answers: TypeAdapter[Answered], operation: str, **params: Any) -> Answered:
        """The answer of an operation that does not stream. Raises Refused and ProtocolViolation."""
        response = await self.send(self._body(operation, params))
        _check(response, "application/json")
        try:
            return answers.validate_json(response.content)
        except ValidationError as exc:
            what = f"the answer to {operation} does not fit ({complaint(exc)}): {shown(response.content)}"
            raise ProtocolViolation(what) from exc

    def stream(self, operation: str, **params: Any) -> StreamedAnswer:
        """The answer of an operation that streams; nothing is sent before it is read."""
        body = self._body(operation, params)

        async def open_stream() -> httpx.Response:
            request = self.http.build_request("POST", self.url, content=body, headers=self.headers)
            try:
                response = await self.http.send(request, stream=True)
            except httpx.RemoteProtocolError as exc:
                raise ProtocolViolation(f"the stream was cut: {exc}") from exc
            try:
                if response.status_code >= 400:
                    await response.aread()
                _check(response, "text/event-stream")
            except BaseException:
                await response.aclose()
                raise
            return response

        return StreamedAnswer(open_stream)

    def _body(self, operation: str, params: Mapping[str, Any]) -> bytes:
        metadata = {"metadata": self.metadata} if self.metadata else {}
        return orjson.dumps({"type": operation, "params": params, **metadata}, default=_as_json)


def as_served(app: ASGIApp) -> ASGIApp:
    """`app` with its failures as a server shows them: 500 before the answer has begun, a cut connection after."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await app(scope, receive, watched)
        except Exception as exc:
            if begun and not ended:
                raise httpx.RemoteProtocolError(f"the app failed within its answer: {exc!r}") from exc
            if not begun:
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"Internal Server Error"})

    return served


def _check(response: httpx.Response, media_type: str) -> None:
    if response.status_code >= 400:
        raise Refused(response)
    given = response.headers.get("content-type", "")
    if response.status_code != 200 or given.partition(";")[0].strip() != media_type:
        raise ProtocolViolation(f"the answer is {response.status_code} of type {given!r}, not 200 of {media_type!r}")


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body: Any = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
