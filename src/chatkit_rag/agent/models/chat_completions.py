"""`ChatCompletionsModel`: any Chat Completions server through the Agents SDK's own model, held to our bounds.

The SDK's model waits ten minutes for a word, and takes an answer that was cut off, or that the model could not
complete, for a whole one. This one ends as `ResponsesModel` does: with the whole answer, or with a `ResponseFailed`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from agents import ModelResponse, ModelSettings, OpenAIChatCompletionsModel
from agents.items import TResponseStreamEvent
from openai import AsyncOpenAI, AsyncStream, OpenAIError, Timeout
from openai.types.chat import ChatCompletionChunk

from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed, failure, malformed
from chatkit_rag.agent.models.openai_failures import failure_of

_NOT_THE_INTERFACE = (ValueError, TypeError, AttributeError)
"""What the SDK raises over chunks that are not JSON, or not chunks."""


class ChatCompletionsModel(OpenAIChatCompletionsModel):
    """A model behind a Chat Completions server.

    `close` it in the end. Every failure is a `ResponseFailed`. Of the options, waits between attempts and the proxy
    are left to OpenAI's client, which reads the proxy from the environment.
    """

    def __init__(
        self, name: str, *, api_key: str, base_url: str | None = None, options: ResponsesOptions | None = None
    ) -> None:
        self._options = options or ResponsesOptions()
        self._connection = AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=self._options.attempts - 1,
            timeout=Timeout(self._options.first_token_seconds, connect=self._options.connect_seconds),
        )
        super().__init__(name, self._connection)

    async def close(self) -> None:
        """Closes the connections."""
        await self._connection.close()

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: D102 - the SDK's own
        try:
            async with asyncio.timeout(self._options.total_seconds):
                return await super().get_response(*args, **kwargs)
        except TimeoutError as exc:
            raise _too_late() from exc
        except OpenAIError as exc:
            failed = failure_of(exc, self._without_key)
            raise failed from failed.__cause__
        except _NOT_THE_INTERFACE as exc:
            raise malformed() from exc

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncGenerator[TResponseStreamEvent, None]:
        """The events of the answer, as the SDK's own model makes them; ends after `response.completed`.

        Raises:
            ResponseFailed: there is no answer, or no whole one.
        """
        loop, options = asyncio.get_running_loop(), self._options
        end_by = loop.time() + options.total_seconds
        patience = options.first_token_seconds
        made = cast("AsyncGenerator[TResponseStreamEvent, None]", super().stream_response(*args, **kwargs))
        async with aclosing(made) as events:
            while True:
                try:
                    async with asyncio.timeout_at(min(loop.time() + patience, end_by)):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError as exc:
                    raise _too_late() from exc
                except OpenAIError as exc:
                    failed = failure_of(exc, self._without_key)
                    raise failed from failed.__cause__
                except _NOT_THE_INTERFACE as exc:
                    raise malformed() from exc
                patience = options.idle_seconds
                yield event

    async def _fetch_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: ModelSettings,
        tools: Any,
        output_schema: Any,
        handoffs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if model_settings.tool_choice == "none":
            # Ollama passes the choice over (ollama/ollama#17921); and some refuse one where there are no tools.
            model_settings, tools, handoffs = replace(model_settings, tool_choice=None), [], []
        # The last place where chunks are seen as they came: the events made of them do not say why an answer ended.
        fetch = cast("Any", super()._fetch_response)
        fetched = await fetch(
            system_instructions, input, model_settings, tools, output_schema, handoffs, *args, **kwargs
        )
        if not kwargs["stream"]:
            return fetched
        response, stream = fetched
        return response, _Whole(stream, self._options.event_bytes)

    def _without_key(self, text: str) -> str:
        return text.replace(self._connection.api_key, "***")


class _Whole:
    """The chunks of a stream; fails at its end where they were not all of the answer."""

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], limit: int) -> None:
        self.response = stream.response
        self._stream = stream
        self._limit = limit

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        reason = None
        async for chunk in self._stream:
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if len(choice.delta.content or "") > self._limit:
                    raise malformed()
            yield chunk
        if reason is None:
            raise ResponseFailed("the model server cut the answer off", reason=FailureReason.UNAVAILABLE)
        if reason in ("length", "content_filter"):
            raise failure({"reason": reason}, str)


def _too_late() -> ResponseFailed:
    return ResponseFailed("the model server did not answer in time", reason=FailureReason.TIMEOUT)
