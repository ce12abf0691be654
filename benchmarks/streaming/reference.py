"""The reference: the server of ChatKit's documentation, with its sample store, on the Agents SDK's own model.

Written as the documentation has it, slow parts included: it is what everything else is measured against.
"""

# ruff: noqa: A002, ARG002, TID251 - the documentation's signatures; the environment is how run.py tells it

import os
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from chatkit.agents import AgentContext, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from sample_store import MyChatKitStore

set_tracing_disabled(True)


class MyChatKitServer(ChatKitServer[dict[str, Any]]):
    assistant_agent = Agent[AgentContext[dict[str, Any]]](
        name="Assistant",
        instructions="You are a helpful assistant",
        model=OpenAIResponsesModel("fake", AsyncOpenAI(api_key="none", base_url=os.environ["MODEL_URL"])),
    )

    async def respond(
        self, thread: ThreadMetadata, input: UserMessageItem | None, context: dict[str, Any]
    ) -> AsyncIterator[ThreadStreamEvent]:
        items_page = await self.store.load_thread_items(thread.id, None, 20, "asc", context)
        input_items = await simple_to_agent_input(items_page.data)
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(self.assistant_agent, input_items, context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event


app = FastAPI()
server = MyChatKitServer(store=MyChatKitStore())


@app.post("/")
async def chatkit_endpoint(request: Request) -> Response:
    result = await server.process(await request.body(), context={})
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(content=result.json, media_type="application/json")
