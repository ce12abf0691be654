"""`ResponsesModel`: OpenAI's Responses interface as an `agents.Model`, over aiohttp and orjson.

    body ── POST ──► bytes ──► EventReader ──► JSON objects ──► stream_raw
                                                            └─► typed events ──► stream_response, get_response

It asks what `agents.OpenAIResponsesModel` asks, and yields what that yields, for a fraction of the CPU: OpenAI's
client decides the type of every single delta among some sixty, and httpx costs several times what aiohttp does.
It is for HTTP and streams only; spans for hosted tracing are not made.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast, get_args

import aiohttp
import orjson
import stamina
from agents import AgentOutputSchemaBase, Handoff, Model, ModelResponse, ModelSettings, Tool, TResponseInputItem, Usage
from agents.items import TResponseStreamEvent
from agents.models.interface import ModelTracing
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputTextAnnotationAddedEvent,
    ResponseStreamEvent,
)
from openai.types.responses.response_prompt_param import ResponsePromptParam
from pydantic import BaseModel, ValidationError

from chatkit_rag.agent.models.exchange import Exchange, ResponsesOptions
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed, failure, retry_after_of
from chatkit_rag.agent.models.request_body import request_body

OPENAI = "https://api.openai.com/v1"

_ERROR_BYTES = 64 * 1024
_TYPES: dict[str, Any] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}


class ResponsesModel(Model):
    """A model behind the Responses interface of OpenAI or of a compatible server.

    One connection pool, opened with the first request, on the event loop of that request; `close` it in the end.
    Every failure is a `ResponseFailed`. Retries are made here: leave `ModelSettings.retry` unset.
    """

    def __init__(
        self, name: str, *, api_key: str, base_url: str | None = None, options: ResponsesOptions | None = None
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._url = f"{(base_url or OPENAI).rstrip('/')}/responses"
        self._options = options or ResponsesOptions()
        self._session: aiohttp.ClientSession | None = None

    async def warm_up(self) -> None:
        """Does what the first request would wait for: the event types' validators are built, the pool is opened.

        No request is made.
        """
        for kind in _TYPES.values():
            kind.model_rebuild()
        self._opened()
        "localhost".encode("idna")  # the first name that is looked up imports the tables for it

    async def close(self) -> None:
        """Closes the connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get_response(  # noqa: D102 - the SDK's own
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        prompt: ResponsePromptParam | None = None,
    ) -> ModelResponse:
        output: list[Any] = []
        response: Any = None
        async for event in self.stream_response(
            system_instructions,
            input,
            model_settings,
            tools,
            output_schema,
            handoffs,
            tracing,
            previous_response_id=previous_response_id,
            conversation_id=conversation_id,
            prompt=prompt,
        ):
            if isinstance(event, ResponseOutputItemDoneEvent):
                output.append(event.item)
            elif isinstance(event, ResponseCompletedEvent):
                response = event.response
        return ModelResponse(output=response.output or output, usage=usage_of(response.usage), response_id=response.id)

    async def stream_response(  # type: ignore[override] - an async generator is what the SDK's own models are
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        prompt: ResponsePromptParam | None = None,
    ) -> AsyncGenerator[TResponseStreamEvent, None]:
        """The events of the answer as OpenAI's types; ends after `response.completed`.

        Closing or cancelling the iterator closes the HTTP response at once. Types that OpenAI's package does not know
        are left out.

        Raises:
            ResponseFailed: there is no answer, or no whole one.
        """
        body = self.request_body(
            system_instructions,
            input,
            model_settings,
            tools,
            output_schema,
            handoffs,
            previous_response_id=previous_response_id,
            conversation_id=conversation_id,
            prompt=prompt,
        )
        raw = self.stream_raw(body, headers=model_settings.extra_headers, query=model_settings.extra_query)
        async with aclosing(raw) as events:
            async for together in events:
                for event in together:
                    typed = typed_event(event)
                    if typed is not None:
                        yield typed

    @property
    def options(self) -> ResponsesOptions:
        """How it speaks to its server."""
        return self._options

    async def stream_raw(
        self, body: Mapping[str, Any], *, headers: Mapping[str, Any] | None = None, query: Any = None
    ) -> AsyncGenerator[Iterator[dict[str, Any]], None]:
        """The events of the answer as the JSON objects that they are, those that arrived together in one iterator.

        Every event has a `type`; a text delta has its `delta`, a done item its `item` and a completed response its
        `response`, each of the type that it should be; the rest is as the server sent it. `response.completed` is the
        last. Nothing is yielded before the first output, so that a failure until then can be tried again. Take all of
        one iterator before the next.

        Closing or cancelling the iterator closes the HTTP response at once.

        Raises:
            ResponseFailed: there is no answer, or no whole one.
        """
        data = orjson.dumps(body, default=_plain)
        end_by = asyncio.get_running_loop().time() + self._options.total_seconds
        # A conversation kept by the server may have taken the first request in already.
        attempts = 1 if body.get("conversation") else self._options.attempts
        exchange, events = await self._begin(data, headers or {}, query, end_by, attempts)
        del body, data  # what was asked is long, and need not stay for as long as the answer takes
        try:
            while True:
                yield events
                if exchange.is_complete:
                    await exchange.drain()
                    return
                events = await exchange.read()
        finally:
            exchange.close()

    def request_body(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None = None,
        handoffs: Iterable[Handoff] = (),
        **named: Any,
    ) -> dict[str, Any]:
        """See `request_body.request_body`."""
        # Also the direct path's door: it asks the same without the runner.
        return request_body(self.name, system_instructions, input, settings, tools, output_schema, handoffs, **named)

    async def _begin(
        self, data: bytes, headers: Mapping[str, Any], query: Any, end_by: float, attempts: int
    ) -> tuple[Exchange, Iterator[dict[str, Any]]]:
        """An exchange that has come to its first output, and its events so far."""
        try:
            return await self._attempt(data, headers, query, end_by)
        except ResponseFailed as exc:
            failed = exc
        options = self._options
        trying = stamina.retry_context(
            on=self._try_again,
            attempts=attempts,
            timeout=options.total_seconds,
            wait_initial=options.retry_wait_seconds,
            wait_jitter=options.retry_wait_seconds,
            wait_max=options.retry_after_seconds,
        )
        # Asked only where the first attempt has failed: asking costs more than all that is done for a request here.
        async for attempt in trying:
            with attempt:
                if attempt.num == 1:
                    raise failed
                return await self._attempt(data, headers, query, end_by)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, data: bytes, headers: Mapping[str, Any], query: Any, end_by: float
    ) -> tuple[Exchange, Iterator[dict[str, Any]]]:
        exchange = await self._post(data, headers, query, end_by)
        try:
            return exchange, await exchange.read_to_first_output()
        except BaseException:
            exchange.close()
            raise

    def _try_again(self, exc: Exception) -> bool | float:
        """Whether another attempt makes sense, or after how many seconds."""
        if not isinstance(exc, ResponseFailed):
            return False
        if exc.reason not in (FailureReason.RATE_LIMITED, FailureReason.UNAVAILABLE):
            return False
        if exc.retry_after is None:
            return True
        return exc.retry_after if exc.retry_after <= self._options.retry_after_seconds else False

    async def _post(self, data: bytes, headers: Mapping[str, Any], query: Any, end_by: float) -> Exchange:
        options = self._options
        first_by = min(asyncio.get_running_loop().time() + options.first_token_seconds, end_by)
        try:
            async with asyncio.timeout_at(first_by):
                response = await self._opened().post(
                    self._url,
                    data=data,
                    headers={name: value for name, value in headers.items() if isinstance(value, str)},
                    params=query,
                    allow_redirects=False,  # the key and the question are for this server only
                )
                if response.status == 200:
                    return Exchange(response, options, self._without_key, first_by=first_by, end_by=end_by)
                try:
                    raise await self._refusal(response)
                finally:
                    response.close()
        except TimeoutError as exc:
            raise ResponseFailed("the model server did not answer in time", reason=FailureReason.TIMEOUT) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ResponseFailed("the model server cannot be reached", reason=FailureReason.UNAVAILABLE) from exc

    async def _refusal(self, response: aiohttp.ClientResponse) -> ResponseFailed:
        text = await response.content.read(_ERROR_BYTES)
        try:
            sent: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            sent = None
        error = cast("dict[str, Any]", sent) if isinstance(sent, dict) else text.decode(errors="replace")
        return failure(error, self._without_key, status=response.status, retry_after=retry_after_of(response.headers))

    def _without_key(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={
                    "Accept": "text/event-stream",
                    "Accept-Encoding": "identity",
                    "Authorization": f"Bearer {self._api_key}",
                    "Content-Type": "application/json",
                },
                # No limit here: how many answers may run is decided where requests come in.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(sock_connect=self._options.connect_seconds),
                proxy=self._options.proxy,
            )
        return self._session


def typed_event(event: dict[str, Any]) -> TResponseStreamEvent | None:
    """The event as the type that OpenAI's own client makes of it; None for one that its package does not know.

    A delta whose type is known beforehand is validated in 2 microseconds; the client takes 46 to find the type. What
    does not fit, because a compatible server leaves a field out, is taken as leniently as the client takes it.
    """
    kind = _TYPES.get(event["type"])
    if kind is None:
        return None
    if kind is ResponseOutputTextAnnotationAddedEvent:
        # openai 3.51 makes classes of it that openai-chatkit 1.6.5 refuses, and the whole answer with them.
        return BaseModel.model_construct.__func__(kind, **event)  # type: ignore[attr-defined] - not OpenAI's own one
    try:
        return kind.model_validate(event)
    except ValidationError:
        return kind.construct(**event)


def usage_of(usage: Any) -> Usage:
    """A response's `usage`, which compatible servers may leave out, as the SDK counts it."""
    if usage is None:
        return Usage(requests=1)
    return Usage(
        requests=1,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        total_tokens=usage.total_tokens or 0,
        input_tokens_details=usage.input_tokens_details,
        output_tokens_details=usage.output_tokens_details,
    )


def _plain(value: Any) -> Any:
    """What orjson does not know by itself."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, Iterable):
        return list(cast("Iterable[Any]", value))
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
