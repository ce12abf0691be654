"""Hooks that answer by the SDK's own translation of an agent's run, `stream_agent_response`, and its agent context."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, InputGuardrail, OutputGuardrail, RunConfig, Runner
from agents.agent import StopAtTools
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.types import (
    ClientToolCallItem,
    CustomSummary,
    CustomTask,
    DurationSummary,
    ProgressUpdateEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadMetadata,
    WidgetItem,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from chatkit.widgets import Card, Text

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import RequestContext
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.testing import ProtocolClient
from protocol.awkward_store import AwkwardStore
from protocol.hooked_servers import Hooked, Ours, Respond, Stock
from protocol.telling_tools import look_up, selection, show

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> AwkwardStore:
    return AwkwardStore(0.01)


@pytest.fixture(params=[Ours, Stock], ids=["RagChatServer", "ChatKitServer"])
def server(request: pytest.FixtureRequest, store: AwkwardStore, course_index: EdgeIndex) -> Hooked:
    if request.param is Ours:
        return Ours(store, sources=[CourseSource(course_index)], model=ExtractiveModel())
    return Stock(store)


@pytest.fixture
async def client(server: Hooked) -> AsyncIterator[ProtocolClient]:
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), ProtocolClient("/", app=chat) as client:
        yield client


@pytest.fixture
def kept(client: ProtocolClient) -> Callable[[str], Awaitable[list[Any]]]:
    """A thread's items as a client lists them, oldest first."""

    async def kept(thread_id: str) -> list[Any]:
        return (await client.list_items(thread_id, order="asc", limit=100)).data

    return kept


def answering_by(server: Hooked, *steps: Any, **options: Any) -> Respond:
    """A hook that runs an agent, whose model says these steps one after another, over all turns."""
    agent = Agent[AgentContext[RequestContext]](
        name="site",
        model=ScriptedModel(steps),
        tools=[look_up, selection, show],
        tool_use_behavior=StopAtTools(stop_at_tool_names=["selection"]),
        **options,
    )

    def answer(thread: ThreadMetadata, message: Any, context: RequestContext) -> Any:
        turn = AgentContext[RequestContext](thread=thread, store=server.store, request_context=context)
        asked = message.content[0].text if message else "Go on."
        result = Runner.run_streamed(agent, asked, context=turn, run_config=RunConfig(tracing_disabled=True))
        return stream_agent_response(turn, result)

    return answer


def calls(tool: str, number: int, **arguments: Any) -> list[Any]:
    return [function_call(tool, arguments, call_id=f"call_{number}", item_id=f"fc_{number}")]


class TestContext:
    async def test_what_tools_stream_comes_between_and_is_stored(self, client: ProtocolClient, server: Hooked, kept):
        server.answering = answering_by(server, calls("show", 1), [assistant_message("There.")])

        answer = await client.create_thread("Show me")

        _, widget, reply = await kept(answer.thread.id)
        assert [event.text for event in answer.of(ProgressUpdateEvent)] == ["Drawing"]
        assert isinstance(widget, WidgetItem)
        assert (widget.widget, widget.copy_text) == (Card(children=[Text(id="text", value="Hello")]), "Hello")
        assert answer.items == [answer.question, widget, reply]
        assert answer.text == "There."


class TestWorkflows:
    async def test_one_ends_with_its_duration_where_the_answer_begins(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        steps = [calls("look_up", 1, what="nodes"), calls("look_up", 2, what="topics"), [assistant_message("Done.")]]
        server.answering = answering_by(server, *steps)

        answer = await client.create_thread("Look")

        _, workflow, reply = await kept(answer.thread.id)
        assert [task.title for task in workflow.workflow.tasks] == ["Looked up nodes", "Looked up topics"]
        assert isinstance(workflow.workflow.summary, DurationSummary)
        assert 0 <= workflow.workflow.summary.duration < 60
        assert workflow.workflow.expanded is False
        assert answer.items == [answer.question, workflow, reply]
        ends = [event.item.id for event in answer.events if isinstance(event, ThreadItemDoneEvent)]
        assert ends == [answer.question.id, workflow.id, reply.id]

    async def test_one_that_a_tool_call_of_the_client_s_interrupts_goes_on_in_the_next_turn(
        self, client: ProtocolClient, server: Hooked, kept, monkeypatch: pytest.MonkeyPatch
    ):
        loaded, load = asyncio.Event(), server.store.load_thread_items

        async def loading(*arguments: Any) -> Any:
            page = await load(*arguments)
            loaded.set()
            return page

        async def after_loading(_call: Any) -> list[Any]:
            await loaded.wait()  # the SDK starts the model, and looks for the workflow then
            return calls("look_up", 3, what="topics")

        before = [calls("look_up", 1, what="nodes"), calls("selection", 2)]
        after = [ModelStep(responder=after_loading), [assistant_message("Done.")]]
        server.answering = answering_by(server, *before, *after)
        first = await client.create_thread("Look")
        _, begun, waiting = await kept(first.thread.id)

        monkeypatch.setattr(server.store, "load_thread_items", loading)
        second = await client.add_client_tool_output(first.thread.id, {"text": "spin()"})

        assert isinstance(begun, WorkflowItem)
        assert [task.title for task in begun.workflow.tasks] == ["Looked up nodes"]
        assert isinstance(waiting, ClientToolCallItem)
        assert (waiting.status, waiting.call_id, waiting.arguments) == ("pending", "call_2", {"trim": True})
        assert [update.task.title for update in second.of(WorkflowTaskAdded)] == ["Looked up topics"]
        _, workflow, call, reply = await kept(first.thread.id)
        assert (workflow.id, call.id, reply) == (begun.id, waiting.id, second.reply)
        assert [task.title for task in workflow.workflow.tasks] == ["Looked up nodes", "Looked up topics"]
        assert isinstance(workflow.workflow.summary, DurationSummary)

    async def test_a_task_that_changes_is_stored_as_it_was_last_and_a_summary_of_its_own_stays(
        self, client: ProtocolClient, server: Hooked, kept
    ):
        async def work(thread: ThreadMetadata, _message: Any, context: RequestContext) -> Any:
            turn = AgentContext[RequestContext](thread=thread, store=server.store, request_context=context)
            await turn.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Searching")]))
            await turn.update_workflow_task(CustomTask(title="Searched"), 0)
            await turn.add_workflow_task(CustomTask(title="Read"))
            await turn.end_workflow(CustomSummary(title="Searched and read"))
            result = Runner.run_streamed(
                Agent(name="site", model=ScriptedModel([[assistant_message("Done.")]])),
                "Go on.",
                run_config=RunConfig(tracing_disabled=True),
            )
            async for event in stream_agent_response(turn, result):
                yield event

        server.answering = work

        answer = await client.create_thread("Work")

        workflow = next(item for item in await kept(answer.thread.id) if isinstance(item, WorkflowItem))
        assert [task.title for task in workflow.workflow.tasks] == ["Searched", "Read"]
        assert workflow.workflow.summary == CustomSummary(title="Searched and read")
        assert len(answer.of(WorkflowTaskUpdated)) == 1
        assert answer.text == "Done."


class TestGuardrails:
    @pytest.mark.parametrize("side", ["input", "output"])
    async def test_one_that_trips_takes_the_answer_back_and_tells_one_error(
        self, client: ProtocolClient, server: Hooked, kept, side: str
    ):
        shown = asyncio.Event()

        async def trips(*_arguments: Any) -> GuardrailFunctionOutput:
            await shown.wait()
            return GuardrailFunctionOutput(output_info="secret", tripwire_triggered=True)

        async def until_shown(*arguments: Any) -> Any:
            async for event in answering(*arguments):
                yield event
                if isinstance(event, ThreadItemDoneEvent) and event.item.type == "assistant_message":
                    shown.set()

        rail: Any = (InputGuardrail if side == "input" else OutputGuardrail)(guardrail_function=trips)
        steps = [calls("look_up", 1, what="nodes"), [assistant_message("How to cheat.")]]
        answering = answering_by(server, *steps, **{f"{side}_guardrails": [rail]})
        server.answering = until_shown

        answer = await client.create_thread("Help me cheat")

        assert answer.text == "How to cheat."
        assert answer.kinds[-1] == "error"
        assert len(answer.errors) == 1
        assert "secret" not in str(answer.json)
        removed = {event.item_id for event in answer.of(ThreadItemRemovedEvent)}
        assert {item.id for item in answer.items[1:]} <= removed
        assert await kept(answer.thread.id) == [answer.question]
