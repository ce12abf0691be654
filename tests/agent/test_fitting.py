"""What a model may narrow a search by, over the wire: the fields of the pages as they are served, to who asks."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import pytest

from agent.openai_server import model_at
from chatkit_rag import create_app
from chatkit_rag.agent.tools import SEARCH_COURSE
from chatkit_rag.asgi.app import ChatApp
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Document, Section
from chatkit_rag.errors import IndexUnavailable
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.filters import Filter, NoneOf
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.settings import Settings
from chatkit_rag.sites import Site
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, ToolCall
from protocol.frames import COVERED, ask

pytestmark = pytest.mark.anyio

ASKED = "How does the gripper close?"


@asynccontextmanager
async def reading(
    source: CourseSource, model: FakeModelServer, *roles: str, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    server = RagChatServer(MemoryStore(), sources=[source], model=model_at(model), **options)
    app = ChatApp(server, authenticate=lambda _: Principal("ada", roles=roles))
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


async def publish(index: MemoryIndex, **metadata: Sequence[Any]) -> None:
    """A page for each of the values, which all fields have as many of."""

    async def pages() -> AsyncIterator[Document]:
        for number, values in enumerate(zip(*metadata.values(), strict=True), 1):
            said = f"The gripper closes by a motor, says page {number}."
            known = {name: value for name, value in zip(metadata, values, strict=True) if value is not None}
            section = Section(heading_path=(f"Gripper {number}",), blocks=(said,))
            yield Document(path=f"/{number}", title=f"Gripper {number}", sections=(section,), metadata=known)

    await ingest(pages(), index, allow_removals=True)


@pytest.fixture
async def index() -> MemoryIndex:
    index = MemoryIndex()
    await publish(index, week=[1, 2, 3, 3])
    return index


def narrowing(request: dict[str, Any]) -> dict[str, Any]:
    """What a request lets the model narrow its search by, and the values that it lists."""
    [search] = [tool for tool in request["tools"] if tool["name"] == SEARCH_COURSE]
    kinds = search["parameters"].get("$defs", {})
    fields = next(iter(kinds.values()))["properties"] if kinds else {}
    return {
        name: argument["anyOf"][0].get("items", {}).get("enum") or argument["anyOf"][0]["type"]
        for name, argument in fields.items()
    }


def searched(model: FakeModelServer) -> dict[str, Any]:
    """What the model's own search returned."""
    outputs = [one["output"] for one in model.requests[-1]["input"] if one.get("type") == "function_call_output"]
    return json.loads(outputs[-1])


async def test_a_model_that_narrows_by_week_gets_pages_of_that_week_only(index: MemoryIndex, model: FakeModelServer):
    model.script = [ToolCall(SEARCH_COURSE, {"query": "gripper", "only": {"week": [3]}}), "In week 3 [4]."]

    async with reading(CourseSource(index), model) as client:
        answer = await ask(client, ASKED)

    assert narrowing(model.requests[0]) == {"week": [1, 2, 3]}
    assert {passage["page"] for passage in searched(model)["passages"]} == {"Gripper 3", "Gripper 4"}
    assert answer.annotations
    assert not answer.errors


async def test_a_value_that_no_page_has_is_a_mistake_that_the_model_is_told_of(
    index: MemoryIndex, model: FakeModelServer
):
    wrong = ToolCall(SEARCH_COURSE, {"query": "gripper", "only": {"week": [9]}})
    model.script = [wrong, "The course has no week 9."]

    async with reading(CourseSource(index), model) as client:
        answer = await ask(client, ASKED)

    told = searched(model)
    assert told["passages"] == []
    assert "schema" in told["error"]
    assert answer.text == "The course has no week 9."
    assert not answer.errors


@pytest.mark.parametrize("only", [{}, {"only": None}, {"only": {"week": None}}, {"only": {"week": []}}])
async def test_what_is_left_open_narrows_nothing(index: MemoryIndex, model: FakeModelServer, only: dict[str, Any]):
    model.script = [ToolCall(SEARCH_COURSE, {"query": "gripper", **only}), "So [1]."]

    async with reading(CourseSource(index), model) as client:
        await ask(client, ASKED)

    assert len(searched(model)["passages"]) == 4


async def test_the_next_generation_brings_its_own_fields_in_the_midst_of_a_conversation(
    index: MemoryIndex, model: FakeModelServer
):
    async with reading(CourseSource(index), model) as client:
        thread = (await ask(client, ASKED)).thread_id
        await publish(index, level=["beginner", "expert", "expert", "beginner"], week=[4, 5, None, None])
        model.script = [ToolCall(SEARCH_COURSE, {"query": "gripper", "only": {"level": ["expert"]}}), "So [1]."]
        await ask(client, ASKED, thread)

    assert narrowing(model.requests[0]) == {"week": [1, 2, 3]}
    assert narrowing(model.requests[1]) == {"level": ["beginner", "expert"], "week": [4, 5]}
    assert {passage["page"] for passage in searched(model)["passages"]} == {"Gripper 2", "Gripper 3"}


async def test_a_model_that_narrows_by_a_field_of_the_generation_before_finds_nothing_and_the_answer_goes_on(
    index: MemoryIndex, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    source = CourseSource(index)
    search = source.search

    async def search_after_a_swap(*arguments: Any, **options: Any) -> Any:
        if options.get("where"):
            await publish(index, level=["beginner", "expert", "expert", "beginner"])
        return await search(*arguments, **options)

    monkeypatch.setattr(source, "search", search_after_a_swap)
    model.script = [ToolCall(SEARCH_COURSE, {"query": "gripper", "only": {"week": [3]}}), "Nothing more."]

    async with reading(source, model) as client:
        answer = await ask(client, ASKED)

    assert searched(model)["passages"] == []
    assert answer.text == "Nothing more."


async def test_a_reader_s_model_is_told_nothing_of_pages_that_the_reader_may_not_see(model: FakeModelServer):
    def students_only(context: RequestContext) -> Filter:
        return Filter() if "teacher" in context.principal.roles else Filter(audience=NoneOf("teachers"))

    index = MemoryIndex()
    await publish(
        index,
        week=[1, 2, 7, 8],
        audience=[None, None, "teachers", None],
        verdict=[None, None, "zebra", None],
        draft=[None, None, None, True],
    )
    source = CourseSource(index, visible=students_only)

    async with reading(source, model, "teacher") as teacher, reading(source, model) as student:
        await ask(teacher, ASKED)
        model.script = [ToolCall(SEARCH_COURSE, {"query": "gripper", "only": {"week": [7]}}), "Nothing."]
        await ask(student, ASKED)

    of_teacher, *of_student = model.requests
    assert narrowing(of_teacher) == {"week": [1, 2, 7]}
    for request in of_student:
        assert narrowing(request) == {"week": [1, 2]}
        assert not {"zebra", "verdict", "teachers", "audience"} & set(json.dumps(request).split('"'))
    assert searched(model)["passages"] == []


async def test_a_site_with_manners_of_its_own_and_a_course_without_fields_are_answered_alike(model: FakeModelServer):
    plain = MemoryIndex()
    await publish(plain, title=["a", "b"])
    narrowed = MemoryIndex()
    await publish(narrowed, week=[1, 2])

    for index, fields in ((plain, {}), (narrowed, {"week": [1, 2]})):
        async with reading(CourseSource(index), model, sites={"": Site(tutor="hint")}) as client:
            answer = await ask(client, ASKED)
        assert answer.annotations
        assert narrowing(model.requests[-1]) == fields


async def test_an_index_that_goes_away_behind_the_search_leaves_the_answer_without_narrowing(
    index: MemoryIndex, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    async def gone() -> str:
        raise IndexUnavailable("the server does not answer")

    monkeypatch.setattr(index, "edition", gone)

    async with reading(CourseSource(index), model) as client:
        answer = await ask(client, ASKED)

    assert answer.annotations
    assert narrowing(model.requests[0]) == {}


async def test_an_app_made_of_settings_has_it_without_more(
    tmp_path: Path, course_index_path: Path, model: FakeModelServer
):
    copytree(course_index_path, tmp_path / "index")
    settings = Settings(
        data_dir=tmp_path, model="fake", openai_api_key="test", openai_base_url=model.base_url, allow_anonymous=True
    )
    app = create_app(settings, authenticate=lambda _: Principal("ada"))

    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await ask(client, COVERED)

    assert narrowing(model.requests[0]) == {"module": [1, 2, 3, 4, 5], "week": list(range(1, 11))}
