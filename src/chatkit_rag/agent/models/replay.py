"""`ReplayModel`: a model whose first response was already received, and shown.

For handing a conversation over to the Agents SDK's runner in the middle of a turn: the runner asks, gets the response
that is there, carries its tool calls out, and asks the model behind for everything further.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agents import Model, ModelResponse
from agents.items import TResponseStreamEvent
from openai.types.responses import ResponseCompletedEvent

from chatkit_rag.agent.models.responses import ResponsesModel, usage_of


class ReplayModel(Model):
    """Answers its first call with a response that is there, and every further one by asking `model`.

    It serves one run: make a new one for each.
    """

    def __init__(self, completed: ResponseCompletedEvent, model: ResponsesModel) -> None:
        """`completed` is the end of the response that is there, with its output; `model` stays its owner's to close."""
        self._completed: ResponseCompletedEvent | None = completed
        self._model = model

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The response that is there, or the model's next one."""
        completed, self._completed = self._completed, None
        if completed is None:
            return await self._model.get_response(*args, **kwargs)
        response = completed.response
        return ModelResponse(output=response.output, usage=usage_of(response.usage), response_id=response.id)

    async def stream_response(  # type: ignore[override] - an async generator is what the SDK's own models are
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[TResponseStreamEvent, None]:
        """The end of the response that is there, for the rest of it was shown; or all of the model's next one."""
        completed, self._completed = self._completed, None
        if completed is not None:
            yield completed
            return
        async with aclosing(self._model.stream_response(*args, **kwargs)) as events:
            async for event in events:
                yield event
