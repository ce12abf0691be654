"""This library, with a source that always finds one passage: on the SDK's model, on the lean one, and direct.

VARIANT names which: `ours`, `ours-lean` or `direct`.
"""

# ruff: noqa: ARG002, TID251 - other people's signatures; the environment is how run.py tells its servers

import os
from typing import Any

from agents import Agent, AgentHooks, OpenAIResponsesModel
from openai import AsyncOpenAI

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.instructions import INSTRUCTIONS
from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.agent.tools import search_tool
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Hit, Passage
from chatkit_rag.protocol.engine import Quotas, TurnOptions
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.stores.memory import MemoryStore

PASSAGE = Passage(
    id="00000000-0000-0000-0000-000000000001",
    path="/nodes",
    anchor="what-is-a-node",
    title="Nodes",
    heading_path=("Nodes", "What is a node?"),
    text="A node is a process that performs computation. " * 20,
    url="/nodes#what-is-a-node",
)


class OnePassage:
    """A source that costs nothing: what is measured here is the stream."""

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        return Retrieved(hits=(Hit(passage=PASSAGE, score=1.0),), weak=False)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...


def create_app() -> ChatApp:
    variant, url = os.environ["VARIANT"], os.environ["MODEL_URL"]
    source = OnePassage()
    if variant == "ours":
        client: Any = AsyncOpenAI(api_key="none", base_url=url)
        model: Any = OpenAIResponsesModel("fake", client)
    else:
        # A thousand streams are paused for longer than a model may be silent.
        client = model = ResponsesModel(
            "fake",
            api_key="none",
            base_url=url,
            options=ResponsesOptions(idle_seconds=600, first_token_seconds=600),
        )
    chosen = ChosenModel(model=model, label=variant, costs_money=False, connection=client)
    agent = Agent[TurnContext](
        name="Course assistant",
        instructions=INSTRUCTIONS,
        model=model,
        tools=[search_tool(source)],
        # Hooks are the runner's business: an agent that has some never takes the direct path.
        hooks=None if variant == "direct" else AgentHooks(),
    )
    turns = TurnOptions(run_seconds=600)
    quotas = Quotas(threads_per_reader=0)  # one reader asks for all
    server = RagChatServer(MemoryStore(), sources=[source], model=chosen, agent=agent, turns=turns, quotas=quotas)
    return ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True, streams_per_reader=0))
