"""MCP servers of a site's own: their tools, and answers that go on without them."""

import asyncio
from collections.abc import Iterator

import pytest

from agent.answering import asked, serving
from chatkit_rag.agent.bounds import ToolBounds
from chatkit_rag.agent.mcp_servers import McpConnection
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.testing import FakeModelServer, ToolCall
from context7_server import EXPLAINED, ROS, Context7Server

pytestmark = pytest.mark.anyio

CALL = ToolCall("query-docs", {"query": "QoS", "libraryId": ROS})


@pytest.fixture
def site() -> Iterator[Context7Server]:
    with Context7Server() as server:
        yield server


def offered(model: FakeModelServer) -> set[str]:
    return {tool["name"] for tool in model.requests[-1]["tools"]}


def output(model: FakeModelServer) -> str:
    return str(model.requests[-1]["input"][-1]["output"])


async def test_the_model_calls_a_tool_of_the_site_s_own_server(
    course_index: EdgeIndex, model: FakeModelServer, site: Context7Server
):
    model.script = [CALL, "Found."]
    before = asyncio.all_tasks()
    async with serving(course_index, model, mcp_servers=[site.mcp]) as server:
        answer = await asked(server)

    assert {"resolve-library-id", "query-docs", "search_course"} <= offered(model)
    assert EXPLAINED in output(model)
    assert answer.text == "Found."
    assert asyncio.all_tasks() == before


async def test_its_tools_are_bounded_like_all_others(
    course_index: EdgeIndex, model: FakeModelServer, site: Context7Server
):
    site.text = "x" * 5_000_000
    model.script = [CALL, CALL, "Enough."]
    async with serving(
        course_index, model, mcp_servers=[site.mcp], tool_bounds=ToolBounds(calls=1, characters=1_000)
    ) as server:
        await asked(server)

    outputs = [item["output"] for item in model.requests[-1]["input"] if item.get("type") == "function_call_output"]
    assert len(str(outputs[-2])) < 1_200
    assert "no more tools" in outputs[-1]


@pytest.mark.parametrize("fault", ["hangs", "fails", "arguments"])
async def test_a_tool_that_fails_or_hangs_ends_no_answer(
    course_index: EdgeIndex, model: FakeModelServer, site: Context7Server, fault: str
):
    site.hangs, site.status = fault == "hangs", 500 if fault == "fails" else 200
    model.script = [ToolCall("query-docs", {"nothing": 1}) if fault == "arguments" else CALL, "Without it."]
    async with serving(course_index, model, mcp_servers=[site.mcp], tool_bounds=ToolBounds(seconds=1.0)) as server:
        first = await asked(server)
        site.hangs, site.status = False, 200
        model.script = [CALL, "With it."]
        second = await asked(server)

    assert (first.text, second.text) == ("Without it.", "With it.")
    assert EXPLAINED in output(model)


async def test_a_server_that_is_not_there_is_left_out_and_found_when_it_comes(
    course_index: EdgeIndex, model: FakeModelServer, caplog: pytest.LogCaptureFixture
):
    with Context7Server() as gone:
        pass
    connection = McpConnection(gone.mcp, retry_seconds=0.0)
    async with serving(course_index, model, mcp_servers=[connection]) as server:
        first = await asked(server)
        without = offered(model)
        with Context7Server(port=gone.port):
            async with asyncio.timeout(10):
                while not connection.is_there():
                    await asyncio.sleep(0.01)
            await asked(server)

    assert first.text
    assert "is not there" in caplog.text
    assert offered(model) - without == {"resolve-library-id", "query-docs"}


async def test_a_server_that_is_lost_is_found_again(course_index: EdgeIndex, model: FakeModelServer):
    with Context7Server() as site:
        connection = McpConnection(site.mcp, retry_seconds=0.0)
        server_open = serving(course_index, model, mcp_servers=[connection])
        server = await server_open.__aenter__()
    try:
        model.script = [CALL, "Without it."]
        lost = await asked(server)
        async with asyncio.timeout(10):
            while connection.is_there():
                await asyncio.sleep(0.01)
        with Context7Server(port=site.port):
            async with asyncio.timeout(10):
                while not connection.is_there():
                    await asyncio.sleep(0.01)
            model.script = [CALL, "With it."]
            found = await asked(server)
            assert EXPLAINED in output(model)
    finally:
        await server_open.__aexit__(None, None, None)

    assert (lost.text, found.text) == ("Without it.", "With it.")


async def test_a_dead_server_does_not_hold_up_the_start(course_index: EdgeIndex, model: FakeModelServer):
    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client has given up
        writer.close()

    silent = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    silent_one = McpConnection(f"http://127.0.0.1:{port}/mcp", seconds=0.2)
    try:
        async with (
            asyncio.timeout(5),
            serving(course_index, model, mcp_servers=[silent_one]) as server,
        ):
            assert (await asked(server)).text
    finally:
        silent.close()


async def test_a_tool_by_the_name_of_one_of_ours_is_left_out(
    course_index: EdgeIndex, model: FakeModelServer, site: Context7Server
):
    async with serving(
        course_index, model, mcp_servers=[site.mcp, site.mcp.replace("127.0.0.1", "localhost")]
    ) as server:
        await asked(server)

    names = [tool["name"] for tool in model.requests[-1]["tools"]]
    assert len(names) == len(set(names))
