"""What the model can do, over the wire and in agents of other people's."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import date
from enum import StrEnum
from typing import Any

import httpx
import pytest
from agents import Agent, FunctionTool, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import BaseModel, Field

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.bounds import ToolBounds
from chatkit_rag.agent.tools import (
    CITE,
    OUTLINE,
    READ_PAGE,
    SEARCH_COURSE,
    cite_tool,
    outline_tool,
    read_page_tool,
    search_tool,
)
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Document, Section
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, ToolCall
from protocol.frames import COVERED, Answer, ask

pytestmark = pytest.mark.anyio

NODES = "/module-1/week-1/nodes"


@pytest.fixture
def source(course_index: EdgeIndex) -> CourseSource:
    return CourseSource(course_index)


async def asked(
    source: CourseSource,
    model: FakeModelServer,
    *tools: FunctionTool,
    bounds: ToolBounds | None = None,
    interface: str = "responses",
) -> Answer:
    """The answer of a server with these tools besides its own."""
    chosen = model_at(model, interface=interface)
    server = RagChatServer(MemoryStore(), sources=[source], model=chosen, tools=tools, tool_bounds=bounds)
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    async with chat.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://test") as http:
        return await ask(http, COVERED)


def outputs(model: FakeModelServer) -> list[str]:
    """What the tools returned, search first, as the model was told it last."""
    sent = model.requests[-1]
    if "messages" in sent:
        return [message["content"] for message in sent["messages"] if message["role"] == "tool"]
    return [item["output"] for item in sent["input"] if item.get("type") == "function_call_output"]


async def alone(tool: FunctionTool, **arguments: Any) -> dict[str, Any]:
    """What a tool returns in an agent that knows nothing of a chat."""
    model = ScriptedModel([[function_call(tool.name, arguments, call_id="call_1")], [assistant_message("Yes.")]])
    await Runner.run(Agent(name="Other", model=model, tools=[tool]), "Go")
    return json.loads(model.last_call.input[-1]["output"])


class TestReading:
    async def test_a_page_is_read_whole_and_can_be_cited(self, source: CourseSource, model: FakeModelServer):
        arguments = {"passage": 1, "path": None, "heading": None}
        model.script = [ToolCall(READ_PAGE, arguments), "It spins [6]."]

        answer = await asked(source, model)

        read = json.loads(outputs(model)[1])
        assert read["path"] == NODES
        assert [passage["heading"].split(" > ")[-1] for passage in read["passages"]][:1] == [
            "Nodes, the building blocks"
        ]
        sixth = next(passage for passage in read["passages"] if passage["number"] == 6)
        assert answer.annotations[0]["source"]["title"].endswith(sixth["heading"].split(" > ")[-1])

    async def test_a_section_is_read_by_its_heading(self, source: CourseSource):
        read = await alone(read_page_tool(source), passage=None, path=NODES, heading="what spinning means")

        assert {passage["heading"].split(" > ")[-1] for passage in read["passages"]} == {"What spinning means"}

    async def test_what_is_not_there_is_told_with_what_is(self, source: CourseSource):
        tool = read_page_tool(source)

        assert OUTLINE in (await alone(tool, passage=None, path="/nowhere", heading=None))["error"]
        assert OUTLINE in (await alone(tool, passage=7, path=None, heading=None))["error"]
        missed = await alone(tool, passage=None, path=NODES, heading="Quaternions")
        assert "What spinning means" in missed["headings"]

    async def test_a_long_page_is_read_up_to_a_size_and_its_other_headings_are_named(self, tmp_path: Any):
        sections = tuple(Section(heading_path=("Long", f"Part {n}"), blocks=("word " * 200,)) for n in range(60))

        async def pages() -> AsyncIterator[Document]:
            yield Document(path="/long", title="Long", sections=sections)

        async with EdgeIndex(tmp_path / "index") as index:
            await ingest(pages(), index, site="course")
            read = await alone(read_page_tool(CourseSource(index)), passage=None, path="/long", heading=None)

        assert 10 < len(read["passages"]) < 30
        assert read["left_out"][0] == f"Part {len(read['passages'])}"


class TestOutline:
    async def test_it_says_what_is_in_a_week_in_the_order_of_the_course(
        self, source: CourseSource, model: FakeModelServer
    ):
        model.script = [ToolCall(OUTLINE, {"module": None, "week": 3}), "Gazebo and sensors [7]."]

        answer = await asked(source, model)

        pages = json.loads(outputs(model)[1])["pages"]
        assert [page["path"] for page in pages] == [
            "/module-2/week-3/describing-a-robot",
            "/module-2/week-3/gazebo",
            "/module-2/week-3/sensors",
            "/guides/slam",
        ]
        assert {(page["module"], page["week"]) for page in pages} == {(2, 3)}
        assert "Lidar: distances by light" in pages[2]["headings"]
        assert len(answer.annotations) == 1

    async def test_a_whole_course_is_listed_in_order(self, source: CourseSource):
        pages = (await alone(outline_tool(source), module=None, week=None))["pages"]

        modules = [page["module"] for page in pages if "module" in page]
        assert modules == sorted(modules)
        assert set(modules) == {1, 2, 3, 4, 5}

    async def test_it_lists_what_the_one_who_asks_may_see(self, course_index: EdgeIndex):
        def only_module_1(_context: RequestContext) -> Filter:
            return Filter(module=1)

        hidden = CourseSource(course_index, visible=only_module_1)

        pages = (await alone(outline_tool(hidden), module=None, week=None))["pages"]
        assert {page["module"] for page in pages} == {1}
        refused = await alone(read_page_tool(hidden), passage=None, path="/module-2/week-3/gazebo", heading=None)
        assert "error" in refused


class TestCiting:
    @pytest.mark.parametrize("interface", INTERFACES)
    async def test_a_passage_of_the_turn_is_cited_by_its_number_and_its_address_may_stand_in_the_answer(
        self, source: CourseSource, model: FakeModelServer, interface: str
    ):
        address = f"{NODES}#create-a-ros-2-node-in-python"
        model.script = [
            ToolCall(CITE, {"passage": 1, "path": None, "heading": None}),
            f"See [nodes]({address}) [1], not [others]({NODES}#invented).",
        ]

        answer = await asked(source, model, cite_tool(source), interface=interface)

        [_search, cited] = map(json.loads, outputs(model))
        source_of_1 = answer.annotations[0]["source"]
        assert (cited["number"], cited["page"]) == (1, "Nodes, the building blocks")
        assert cited["heading"] == source_of_1["title"].replace(
            " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} ", " > "
        )
        assert cited["url"] == source_of_1["url"] == address
        assert cited["excerpt"] == source_of_1["description"] != ""
        assert answer.text == f"See [nodes]({address}), not [others]."

    async def test_what_is_found_by_its_heading_is_a_passage_of_the_turn_from_then_on(
        self, source: CourseSource, model: FakeModelServer
    ):
        model.script = [
            ToolCall(CITE, {"passage": None, "path": "/module-2/week-3/sensors", "heading": "lidar"}),
            "Light [6].",
        ]

        answer = await asked(source, model, cite_tool(source))

        cited = json.loads(outputs(model)[1])
        assert (cited["number"], cited["url"]) == (6, "/module-2/week-3/sensors#lidar-distances-by-light")
        assert [annotation["source"]["url"] for annotation in answer.annotations] == [cited["url"]]

    @pytest.mark.parametrize("number", [0, -1, 6, 99])
    async def test_a_number_that_is_not_of_the_turn_is_told_as_data(
        self, source: CourseSource, model: FakeModelServer, number: int
    ):
        model.script = [ToolCall(CITE, {"passage": number, "path": NODES, "heading": None}), "Well [1]."]

        answer = await asked(source, model, cite_tool(source))

        assert json.loads(outputs(model)[1]) == {"error": f"no passage here has the number {number}"}
        assert answer.text == "Well."

    async def test_an_agent_of_somebody_elses_cites_by_page_and_heading(self, source: CourseSource):
        tool = cite_tool(source)

        section = await alone(tool, passage=None, path=NODES, heading="What spinning means")
        page = await alone(tool, passage=None, path="Nodes, the building blocks", heading=None)

        assert section["url"] == f"{NODES}#what-spinning-means"
        assert section["heading"].endswith(" > What spinning means")
        assert page["url"].partition("#")[0] == NODES
        assert (await alone(tool, passage=1, path=None, heading=None))["error"]
        assert OUTLINE in (await alone(tool, passage=None, path=None, heading=None))["error"]
        missed = await alone(tool, passage=None, path=NODES, heading="Quaternions")
        assert "What spinning means" in missed["headings"]

    async def test_of_headings_that_hold_the_words_the_very_one_is_cited(self):
        async def pages() -> AsyncIterator[Document]:
            headings = ("Nodes in practice", "Nodes")
            sections = tuple(Section(heading_path=("A", one), anchor=one[-5:], blocks=("Text.",)) for one in headings)
            yield Document(path="/a", title="A", sections=sections)

        index = MemoryIndex()
        await ingest(pages(), index, url="https://example.org")

        cited = await alone(cite_tool(CourseSource(index)), passage=None, path="/a", heading="nodes")

        assert cited == {
            "number": 1,
            "page": "A",
            "heading": "A > Nodes",
            "url": "https://example.org/a#Nodes",
            "excerpt": "Text.",
        }

    async def test_a_page_that_the_reader_may_not_see_is_none(self, course_index: EdgeIndex):
        hidden = CourseSource(course_index, visible=lambda _: Filter(module=1))

        refused = await alone(cite_tool(hidden), passage=None, path="/module-2/week-3/gazebo", heading=None)

        assert "error" in refused


class TestSearching:
    async def test_an_agent_of_somebody_elses_gets_passages_numbered_from_1(self, source: CourseSource):
        found = await alone(search_tool(source, name="look_up"), query=COVERED)

        assert [passage["number"] for passage in found["passages"]] == [1, 2, 3, 4, 5]

    async def test_a_failure_is_told_in_our_words_and_the_next_call_tries_again(
        self, source: CourseSource, monkeypatch: pytest.MonkeyPatch
    ):
        async def broken(*_arguments: Any, **_options: Any) -> None:
            raise RuntimeError("password=hunter2")

        with monkeypatch.context() as patched:
            patched.setattr(source, "search", broken)
            failed = await alone(search_tool(source), query=COVERED)

        assert failed == {"error": "the course cannot be read at the moment", "passages": []}
        assert (await alone(search_tool(source), query=COVERED))["passages"]


@function_tool(failure_error_function=None)
def raises() -> str:
    """Fails."""
    raise RuntimeError("password=hunter2")


@function_tool
async def hangs() -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return ""


@function_tool
def talks() -> str:
    """Returns five megabytes."""
    return "x" * 5_000_000


class TestToolsOfASite:
    @pytest.mark.parametrize(
        ("tool", "told"),
        [
            (raises, '{"error":"the tool failed"}'),
            (hangs, '{"error":"the tool took too long"}'),
            (talks, f"{'x' * 40_000}\n(cut: 5000000 characters)"),
        ],
        ids=["raises", "hangs", "talks"],
    )
    async def test_one_that_goes_wrong_does_not_end_the_answer(
        self, source: CourseSource, model: FakeModelServer, tool: FunctionTool, told: str
    ):
        model.script = [ToolCall(tool.name, {}), "Well [1]."]

        answer = await asked(source, model, tool, bounds=ToolBounds(seconds=0.3))

        assert outputs(model)[1] == told
        assert answer.text == "Well."
        assert len(answer.annotations) == 1

    async def test_no_more_than_so_many_are_carried_out_in_an_answer(
        self, source: CourseSource, model: FakeModelServer
    ):
        called: list[int] = []

        @function_tool
        def rolls() -> str:
            """Rolls a die."""
            called.append(4)
            return "4"

        model.script = [ToolCall("rolls", {})] * 4 + ["Four."]

        answer = await asked(source, model, rolls, bounds=ToolBounds(calls=2))

        assert answer.text == "Four."
        assert called == [4, 4]
        assert outputs(model)[-1].startswith('{"error":"no more tools')

    async def test_of_fifty_that_are_called_at_once_as_many_are_carried_out(self, source: CourseSource):
        called: list[int] = []

        @function_tool
        def rolls(number: int) -> str:
            """Rolls a die."""
            called.append(number)
            return "4"

        at_once = [function_call("rolls", {"number": number}, call_id=f"call_{number}") for number in range(50)]
        model = ScriptedModel([at_once, [assistant_message("Four.")]])
        server = RagChatServer(MemoryStore(), sources=[source], model=model, tools=[rolls])
        chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
        transport = httpx.ASGITransport(chat)
        async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await ask(http, COVERED)

        assert answer.text == "Four."
        assert len(called) == ToolBounds().calls


async def test_the_names_are_those_of_the_instructions(source: CourseSource):
    server = RagChatServer(MemoryStore(), sources=[source], model="extractive")

    names: Sequence[str] = [tool.name for tool in server.agent.tools]
    assert names == [SEARCH_COURSE, READ_PAGE, OUTLINE]
    assert all(name in str(server.agent.instructions) for name in names)


class Level(StrEnum):
    BEGINNER = "beginner"
    EXPERT = "expert"


class FrontMatter(BaseModel):
    week: int | None = Field(default=None, description="The week of the course")
    level: Level | None = None
    tags: list[str] = []
    due: date | None = Field(default=None, alias="due_date")
    graded: bool = False


class TestNarrowing:
    @pytest.fixture
    async def typed(self) -> CourseSource:
        async def documents() -> AsyncIterator[Document]:
            for number, (level, tag) in enumerate([("beginner", "arm"), ("expert", "arm"), ("expert", "leg")], 1):
                text = f"The gripper closes, as week {number} shows."
                metadata = {
                    "week": number,
                    "level": level,
                    "tags": [tag, "all"],
                    "due_date": f"2030-01-0{number}",
                    "graded": number == 3,
                }
                section = Section(heading_path=(f"Gripper {number}",), blocks=(text,))
                yield Document(path=f"/{number}", title=f"Gripper {number}", sections=(section,), metadata=metadata)
            hidden = Section(heading_path=("Gripper 4",), blocks=("The gripper closes in secret.",))
            yield Document(path="/4", title="Gripper 4", sections=(hidden,), metadata={"week": 2, "draft": True})

        index = MemoryIndex()
        await ingest(documents(), index)
        return CourseSource(index, fields=FrontMatter)

    @pytest.mark.parametrize(
        ("only", "pages"),
        [
            (None, {1, 2, 3}),
            ({}, {1, 2, 3}),
            ({"week_from": 2}, {2, 3}),
            ({"week_from": 2, "week_to": 2}, {2}),
            ({"level": ["expert"]}, {2, 3}),
            ({"level": ["expert", "beginner"], "tags": ["leg"]}, {3}),
            ({"due_to": "2030-01-02"}, {1, 2}),
            ({"graded": True}, {3}),
        ],
    )
    async def test_a_model_narrows_its_search_by_what_the_pages_say_of_themselves(
        self, typed: CourseSource, only: dict[str, Any] | None, pages: set[int]
    ):
        found = await alone(search_tool(typed, limit=20), query="gripper", only=only)

        assert {passage["page"] for passage in found["passages"]} == {f"Gripper {number}" for number in pages}

    async def test_what_is_no_value_of_a_field_fails_for_the_model_alone(self, typed: CourseSource):
        found = await alone(search_tool(typed), query="gripper", only={"level": ["wizard"]})

        assert found["passages"] == []
        assert found["error"]

    async def test_the_tool_says_what_there_is_to_narrow_by(self, typed: CourseSource):
        [narrowing] = search_tool(typed).params_json_schema["$defs"].keys() - {"Level"}

        said = search_tool(typed).params_json_schema["$defs"][narrowing]["properties"]
        assert set(said) == {"week_from", "week_to", "level", "tags", "due_from", "due_to", "graded"}
        assert said["week_from"]["description"] == "The week of the course: from"

    @pytest.mark.parametrize("limit", [0, 21, -1])
    async def test_a_search_gives_one_to_twenty_passages(self, source: CourseSource, limit: int):
        with pytest.raises(ValueError, match="1 to 20"):
            search_tool(source, limit=limit)

    async def test_it_gives_as_many_as_it_is_asked_for(self, source: CourseSource):
        assert len((await alone(search_tool(source, limit=9), query=COVERED))["passages"]) == 9
