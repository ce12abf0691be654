"""The direct path: what the runner would have done, without it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from agents import Agent, AgentHooks, GuardrailFunctionOutput, ModelSettings, OutputGuardrail, function_tool
from chatkit.types import AssistantMessageContentPartTextDelta, ThreadItemUpdatedEvent, ThreadMetadata
from hypothesis import given
from hypothesis import strategies as st
from openai.types.shared import Reasoning

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.direct import direct_model, stream_shortest
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.agent.pieces import Pieces
from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.documents import Passage
from chatkit_rag.errors import ModelFailed
from chatkit_rag.protocol.events import to_json, to_sse
from chatkit_rag.sites import Budget
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, Fault, ToolCall

pytestmark = pytest.mark.anyio

TALK: Any = [
    {"role": "user", "content": "What is a node?"},
    {"type": "function_call", "call_id": "call_0", "name": "search_course", "arguments": '{"query": "node"}'},
    {"type": "function_call_output", "call_id": "call_0", "output": "A node is a process."},
]
PASSAGE = Passage(
    id="1",
    path="/nodes",
    anchor="what",
    title="Nodes",
    heading_path=("Nodes", "What"),
    text="A process.",
    url="/nodes#what",
)


@function_tool
def search_course(query: str) -> str:
    """Searches the course."""
    return f"passages about {query}"


@pytest.fixture
def fake() -> Iterator[FakeModelServer]:
    with FakeModelServer() as server:
        yield server


@pytest.fixture
async def model(fake: FakeModelServer) -> AsyncIterator[ResponsesModel]:
    model = ResponsesModel("fake", api_key="test", base_url=fake.base_url, options=ResponsesOptions(attempts=1))
    yield model
    await model.close()


@pytest.fixture
def turn(context: RequestContext) -> TurnContext:
    thread = ThreadMetadata(id="thr_1", created_at=utc_now())
    return TurnContext(thread=thread, store=MemoryStore(), request_context=context, passages=[PASSAGE])


def agent_of(model: Any, **changed: Any) -> Agent[TurnContext]:
    fields: dict[str, Any] = {"name": "A", "instructions": "Cite.", "model": model, "tools": [search_course]}
    return Agent[TurnContext](**{**fields, **changed})


def through_the_runner(agent: Agent[TurnContext]) -> Agent[TurnContext]:
    """The same agent, with hooks that do nothing."""
    return agent.clone(hooks=AgentHooks())


def frames_of(event: Any) -> list[str]:
    """What a reader gets of an event, frame by frame."""
    return [frame.decode().removeprefix("data: ") for frame in to_sse(event)]


async def shown(agent: Agent[TurnContext], turn: TurnContext) -> list[dict[str, Any]]:
    """The events as they leave, without what differs from run to run."""
    async with aclosing(stream_shortest(agent, TALK, turn)) as events:
        seen = [json.loads(frame) async for event in events for frame in frames_of(event)]
    for event in seen:
        event.pop("item_id", None)
        if "item" in event:
            event["item"].pop("id")
            event["item"].pop("created_at")
    return seen


SCRIPTS: dict[str, list[str | ToolCall]] = {
    "an answer": ["A node is a process [1]. It is not a thread [7]."],
    "a tool call": [ToolCall("search_course", {"query": "nodes"}), "Yes [1]."],
    "two tool calls": [
        ToolCall("search_course", {"query": "a"}),
        ToolCall("search_course", {"query": "b"}),
        "Yes [1].",
    ],
}


class TestTheSameAsTheRunner:
    @pytest.mark.parametrize("spare", [1, 0], ids=["within the budget", "with the last of it"])
    @pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
    async def test_the_reader_sees_the_same_and_the_model_is_asked_the_same(
        self,
        fake: FakeModelServer,
        model: ResponsesModel,
        turn: TurnContext,
        script: list[str | ToolCall],
        spare: int,
    ):
        turn.budget = Budget(max_turns=len(script) + spare)
        settings = ModelSettings(
            temperature=0.5, reasoning=Reasoning(effort="low"), extra_args={"service_tier": "flex"}
        )
        agent = agent_of(model, model_settings=settings)

        fake.script = list(script)
        direct = await shown(agent, turn)
        asked = fake.requests[:]
        fake.requests.clear()
        fake.script = list(script)
        through = await shown(through_the_runner(agent), turn)

        assert direct == through
        assert len(asked) == len(script)
        assert asked[-1].get("tool_choice") == (None if spare else "none")
        assert _without_numbers(asked) == _without_numbers(fake.requests)

    async def test_an_answer_does_not_need_the_runner(
        self, model: ResponsesModel, turn: TurnContext, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.delattr("agents.Runner.run_streamed")

        assert await shown(agent_of(model), turn)

    @pytest.mark.parametrize("ending", ["incomplete", "failed"])
    async def test_a_broken_answer_is_the_models_failure(
        self, fake: FakeModelServer, model: ResponsesModel, turn: TurnContext, ending: Any
    ):
        fake.fault = Fault(ending)

        with pytest.raises(ModelFailed):
            await shown(agent_of(model), turn)

        assert fake.fired == {ending: 1}

    async def test_closing_it_stops_the_model(self, fake: FakeModelServer, model: ResponsesModel, turn: TurnContext):
        fake.answer, fake.pause = "word " * 1000, 0.01

        async with aclosing(stream_shortest(agent_of(model), TALK, turn)) as events:
            async for event in events:
                if isinstance(event, ThreadItemUpdatedEvent) and event.update.type.endswith("text_delta"):
                    break

        async with asyncio.timeout(5):
            while not fake.disconnects:
                await asyncio.sleep(0.01)


def _without_numbers(bodies: list[dict[str, Any]]) -> list[str]:
    """The fake server numbers its items; the second run's go on from the first's."""
    return ["".join(char for char in json.dumps(body) if not char.isdigit()) for body in bodies]


def _passes(*_: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


class Scripted(ResponsesModel):
    """The lean client with responses that no server has to send."""

    def __init__(self, *responses: list[dict[str, Any]]) -> None:
        super().__init__("fake", api_key="test")
        self.left = list(responses)

    async def stream_raw(self, _body: Any, **_: Any) -> AsyncGenerator[Iterator[dict[str, Any]], None]:
        yield iter(self.left.pop(0))


def response_of(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """A response whose messages come in one delta each; its last event has no output, as some servers send it."""
    events: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        place = {"item_id": item["id"], "output_index": index, "content_index": 0, "sequence_number": 0}
        added = {**item, "status": "in_progress"} | ({"content": []} if "content" in item else {})
        events.append(
            {"type": "response.output_item.added", "output_index": index, "item": added, "sequence_number": 0}
        )
        events += [
            {"type": "response.output_text.delta", "delta": part["text"], "logprobs": [], **place}
            for part in item.get("content", [])
            if "text" in part
        ]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item, "sequence_number": 0})
    kept = {"id": "resp_1", "object": "response", "created_at": 0, "model": "fake", "parallel_tool_calls": True}
    response = {**kept, "tool_choice": "auto", "tools": [], "output": [], "status": "completed", "usage": None}
    return [*events, {"type": "response.completed", "response": response, "sequence_number": 0}]


def message_of(*content: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": list(content)}


def text_of(text: str) -> dict[str, Any]:
    return message_of({"type": "output_text", "text": text, "annotations": [], "logprobs": []})


CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "search_course",
    "arguments": '{"query": "nodes"}',
    "status": "completed",
}


class TestWhatElseAResponseHolds:
    async def test_what_is_said_before_a_tool_call_is_shown_once(self, turn: TurnContext):
        scripts = [response_of(text_of("Let me see. "), CALL), response_of(text_of("Yes [1]."))]

        direct = await shown(agent_of(Scripted(*scripts)), turn)
        through = await shown(through_the_runner(agent_of(Scripted(*scripts))), turn)

        deltas = [event["update"]["delta"] for event in direct if "delta" in event.get("update", {})]
        assert "".join(deltas) == "Let me see. Yes."
        assert direct == through

    @pytest.mark.parametrize("path", [lambda agent: agent, through_the_runner], ids=["direct", "runner"])
    async def test_a_refusal_is_a_failure_and_leaves_no_empty_message(self, turn: TurnContext, path: Any):
        agent = path(agent_of(Scripted(response_of(message_of({"type": "refusal", "refusal": "No."})))))
        seen: list[str] = []

        async def read() -> None:
            async with aclosing(stream_shortest(agent, TALK, turn)) as events:
                async for event in events:
                    seen.append(event.type)  # noqa: PERF401 - what came before the failure counts

        with pytest.raises(ModelFailed):
            await read()
        assert "thread.item.done" not in seen


class TestWhoGoesDirect:
    @pytest.mark.parametrize(
        "changed",
        [
            {"model": ExtractiveModel()},
            {"hooks": AgentHooks()},
            {"instructions": lambda _context, _agent: "Be kind."},
            {"handoffs": [Agent(name="Helper")]},
            {"output_guardrails": [OutputGuardrail(_passes)]},
            {"output_type": int},
            {"model_settings": ModelSettings(timeout=5)},
            {"tools": [function_tool(is_enabled=lambda _context, _agent: False)(lambda: "x")]},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    async def test_an_agent_that_needs_the_runner_gets_it(self, model: ResponsesModel, changed: dict[str, Any]):
        assert direct_model(agent_of(model)) is model
        assert direct_model(agent_of(**{"model": model, **changed})) is None


class TestTextThatArrivesTogether:
    async def test_it_is_one_event_and_leaves_in_the_pieces_that_it_came_in(self, turn: TurnContext):
        words = ["A", " node", " is", " a", " process", " [1]", "."]
        whole = response_of(text_of("".join(words)))
        [delta] = [event for event in whole if event["type"].endswith("text.delta")]
        place = whole.index(delta)
        whole[place : place + 1] = [{**delta, "delta": word} for word in words]

        async with aclosing(stream_shortest(agent_of(Scripted(whole)), TALK, turn)) as events:
            texts = [
                (event.update.delta, [json.loads(frame)["update"]["delta"] for frame in frames_of(event)])
                async for event in events
                if isinstance(event, ThreadItemUpdatedEvent)
                and isinstance(event.update, AssistantMessageContentPartTextDelta)
            ]

        assert texts == [("A node is a process", words[:5]), (".", ["."])]

    def test_what_a_hook_makes_of_it_is_one_piece(self):
        update = AssistantMessageContentPartTextDelta(content_index=0, delta=Pieces.joined(["a", "b"]).upper())

        [frame] = frames_of(ThreadItemUpdatedEvent(item_id="i", update=update))

        assert json.loads(frame)["update"]["delta"] == "AB"


class TestDeltaFrames:
    @given(item_id=st.text(), delta=st.text(st.characters(codec="utf-8")), index=st.integers(0, 99))
    def test_they_are_byte_for_byte_what_pydantic_makes(self, item_id: str, delta: str, index: int):
        update = AssistantMessageContentPartTextDelta(content_index=index, delta=delta)
        event = ThreadItemUpdatedEvent(item_id=item_id.encode(errors="replace").decode(), update=update)

        assert to_sse(event) == [b"data: " + to_json(event) + b"\n\n"]
