"""Chat Completions servers: the SDK's own model, held to the bounds of the lean client."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from agents import Agent, ModelSettings, ModelTracing, OpenAIChatCompletionsModel, function_tool, handoff
from chatkit.types import ThreadMetadata
from openai import AsyncOpenAI

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.failures import FailureReason, ResponseFailed
from chatkit_rag.agent.run import stream_answer
from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, Fault, ToolCall

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"
REQUEST: dict[str, Any] = {
    "system_instructions": "Be short.",
    "input": "Hello?",
    "model_settings": ModelSettings(),
    "tools": [],
    "output_schema": None,
    "handoffs": [],
    "tracing": ModelTracing.DISABLED,
}


@function_tool
def look() -> str:
    """Looks."""
    return "seen"


@pytest.fixture
def fake() -> Iterator[FakeModelServer]:
    with FakeModelServer() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
async def sdk() -> None:
    """OpenAI's package makes its types with the first answer of a process, which takes longer than answers may here."""
    with FakeModelServer() as server:
        model = ChatCompletionsModel("fake", api_key=KEY, base_url=server.base_url)
        await streamed(model)
        await model.get_response(**REQUEST)
        await model.close()


@pytest.fixture
async def model(fake: FakeModelServer) -> AsyncIterator[ChatCompletionsModel]:
    options = ResponsesOptions(attempts=1, first_token_seconds=10, idle_seconds=10, total_seconds=1.5)
    model = ChatCompletionsModel("fake", api_key=KEY, base_url=fake.base_url, options=options)
    yield model
    await model.close()


async def streamed(model: ChatCompletionsModel) -> list[Any]:
    return [event async for event in model.stream_response(**REQUEST)]


async def test_a_stream_ends_with_the_whole_answer(fake: FakeModelServer, model: ChatCompletionsModel):
    fake.script = ["Yes.", ToolCall("search_course", {"query": "nodes"})]

    said, called = (await streamed(model))[-1], (await streamed(model))[-1]

    assert said.response.output_text == "Yes."
    assert [item.name for item in called.response.output] == ["search_course"]


async def test_where_nothing_may_be_called_nothing_is_offered(fake: FakeModelServer, model: ChatCompletionsModel):
    offered: dict[str, Any] = {"tools": [look], "handoffs": [handoff(Agent(name="other"))]}
    for choice in (None, "none"):
        asked = {**REQUEST, **offered, "model_settings": ModelSettings(tool_choice=choice, parallel_tool_calls=True)}
        async for _ in model.stream_response(**asked):
            pass
        await model.get_response(**asked)

    assert [len(body.get("tools", ())) for body in fake.requests] == [2, 2, 0, 0]
    assert not {"tool_choice", "parallel_tool_calls"} & {*fake.requests[-2], *fake.requests[-1]}


async def test_without_a_stream_it_is_the_same_answer(model: ChatCompletionsModel):
    whole = await model.get_response(**REQUEST)

    assert [part.text for item in whole.output for part in item.content] == ["Yes [1]."]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("unauthorized"), FailureReason.AUTH),
        (Fault("quota"), FailureReason.QUOTA),
        (Fault("silent"), FailureReason.TIMEOUT),
        (Fault("cut"), FailureReason.UNAVAILABLE),
        (Fault("malformed"), FailureReason.MALFORMED),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "whole"])
async def test_a_failure_has_its_reason_and_does_not_tell_the_key(
    fake: FakeModelServer, model: ChatCompletionsModel, fault: Fault, reason: FailureReason, *, whole: bool
):
    fake.fault = fault

    with pytest.raises(ResponseFailed) as caught:
        await (model.get_response(**REQUEST) if whole else streamed(model))

    assert fake.fired == {fault.kind: 1}
    assert caught.value.reason == reason
    assert KEY not in f"{caught.value} {caught.value.__cause__}"


async def test_an_answer_that_never_ends_is_cut_when_its_time_is_over(
    fake: FakeModelServer, model: ChatCompletionsModel
):
    fake.answer, fake.pause = "word " * 1000, 0.02

    with pytest.raises(ResponseFailed) as caught:
        await streamed(model)

    assert caught.value.reason == FailureReason.TIMEOUT
    assert 0 < fake.sent < 1000


async def test_the_failures_of_a_model_of_the_sites_own_have_their_reasons_too(
    fake: FakeModelServer, context: RequestContext
):
    fake.fault = Fault("quota")
    thread = ThreadMetadata(id="thr_1", created_at=utc_now())
    turn = TurnContext(thread=thread, store=MemoryStore(), request_context=context)
    async with AsyncOpenAI(api_key=KEY, base_url=fake.base_url, max_retries=0) as client:
        agent = Agent[TurnContext](name="A", model=OpenAIChatCompletionsModel("fake", client))

        with pytest.raises(ResponseFailed) as caught:
            [event async for event in stream_answer(agent, [{"role": "user", "content": "Hello?"}], turn)]

    assert fake.fired == {"quota": 1}
    assert caught.value.reason == FailureReason.QUOTA
