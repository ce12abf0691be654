"""What a site's own tools tell the reader by themselves, while an answer is made, over the wire."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from agents import Agent, StopAtTools

from agent.openai_server import model_at
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.tools import search_tool
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, ToolCall
from protocol.frames import COVERED, ask, items_of, request, stream
from protocol.telling_tools import look_up, selection, show

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(model: FakeModelServer, course_index: Any) -> AsyncIterator[httpx.AsyncClient]:
    source = CourseSource(course_index)
    chosen = model_at(model)
    agent = Agent[TurnContext](
        name="site",
        model=chosen.model,
        tools=[search_tool(source), show, look_up, selection],
        tool_use_behavior=StopAtTools(stop_at_tool_names=["selection"]),
    )
    server = RagChatServer(MemoryStore(), sources=[source], model=chosen, agent=agent)
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://test") as http:
        yield http


async def test_a_card_and_an_effect_come_before_the_text_and_the_card_is_kept(
    client: httpx.AsyncClient, model: FakeModelServer
):
    model.script = [ToolCall("show", {}), "It is shown [1]."]

    answer = await ask(client, COVERED)

    kinds = answer.kinds
    assert kinds.index("client_effect") < kinds.index("assistant_message.content_part.text_delta")
    assert kinds.count("widget.streaming_text.value_delta") == 1
    user, card, reply = await items_of(client, answer.thread_id)
    assert (user["type"], card["type"], reply["type"]) == ("user_message", "widget", "assistant_message")
    assert card["widget"]["children"][0]["value"] == "Hello"
    assert not answer.errors


async def test_a_workflow_is_closed_when_the_text_begins(client: httpx.AsyncClient, model: FakeModelServer):
    model.script = [ToolCall("look_up", {"what": "nodes"}), ToolCall("look_up", {"what": "topics"}), "Found [1]."]

    answer = await ask(client, COVERED)

    [_, workflow, _] = await items_of(client, answer.thread_id)
    assert [task["title"] for task in workflow["workflow"]["tasks"]] == ["Looked up nodes", "Looked up topics"]
    assert workflow["workflow"]["summary"]["duration"] < 60
    done = [event["item"]["type"] for event in answer.of("thread.item.done")]
    assert done == ["user_message", "workflow", "assistant_message"]


async def test_the_browser_is_asked_and_the_answer_goes_on_with_what_it_returns(
    client: httpx.AsyncClient, model: FakeModelServer
):
    model.script = [ToolCall("selection", {}), "You selected rclpy [1]."]

    asked = await ask(client, COVERED)
    call = asked.of("thread.item.done")[-1]["item"]
    params = {"thread_id": asked.thread_id, "result": {"text": "rclpy"}}
    answer = await stream(client, request("threads.add_client_tool_output", **params))

    assert (call["type"], call["name"], call["arguments"]) == ("client_tool_call", "selection", {"trim": True})
    assert answer.text == "You selected rclpy."
    told = [item for item in model.requests[-1]["input"] if item.get("call_id") == call["call_id"]]
    assert [item["type"] for item in told] == ["function_call", "function_call_output"]


async def test_a_further_search_is_told_in_the_reader_s_language(client: httpx.AsyncClient, model: FakeModelServer):
    model.script = [ToolCall("search_course", {"query": "topics"}), "A topic is a name [1]."]
    client.headers["accept-language"] = "fr-CA"

    answer = await ask(client, COVERED)

    assert [(event["icon"], event["text"]) for event in answer.of("progress_update")] == [
        ("search", "Recherche dans le cours …")
    ]


async def test_a_tool_that_fails_after_it_has_told_something_leaves_what_it_told(
    client: httpx.AsyncClient, model: FakeModelServer
):
    model.script = [ToolCall("show", {}), ToolCall("unknown", {})]

    answer = await ask(client, COVERED)

    assert len(answer.errors) == 1
    assert [item["type"] for item in await items_of(client, answer.thread_id)][:2] == ["user_message", "widget"]
