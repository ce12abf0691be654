"""`RagChatServer`: what an answer is made of, and what a site can change about it."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.server import NonStreamingResult

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.history import HistoryOptions
from chatkit_rag.context import PageContext, Principal, RequestContext
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.protocol.requests import RequestLimits
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import COVERED, UNCOVERED, Answer, message, question, read_frames, request

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"))


@pytest.fixture
def source(course_index: EdgeIndex) -> CourseSource:
    return CourseSource(course_index)


def says(*texts: str) -> ScriptedModel:
    return ScriptedModel([[assistant_message(text)] for text in texts])


async def stream(server: RagChatServer, body: dict[str, Any], context: RequestContext = ADA) -> Answer:
    result = await server.process(orjson.dumps(body), context)
    return Answer(read_frames(b"".join([frame async for frame in result]).decode()))


def heard(model: ScriptedModel) -> list[tuple[str, str]]:
    """Who said what in the conversation that the model was given last."""
    return [(item["role"], item["content"]) for item in model.last_call.input if "role" in item]


class TestAnswers:
    async def test_the_question_stands_last_and_once_with_the_search_behind_it(self, source: CourseSource):
        model = says("One.", "Two.")
        server = RagChatServer(MemoryStore(), sources=[source], model=model)
        first = await stream(server, question(COVERED))

        await stream(server, question("What is a topic?", first.thread_id))

        assert heard(model) == [("user", COVERED), ("assistant", "One."), ("user", "What is a topic?")]
        assert [item.get("type") for item in model.last_call.input[-2:]] == ["function_call", "function_call_output"]

    async def test_another_try_does_not_see_the_first_answer(self, source: CourseSource):
        model = says("Before.", "Old.", "Later.", "New.")
        server = RagChatServer(MemoryStore(), sources=[source], model=model)
        before = await stream(server, question(COVERED))
        old = await stream(server, question("What is a topic?", before.thread_id))
        await stream(server, question("And what is a service?", before.thread_id))

        retry = request("threads.retry_after_item", thread_id=before.thread_id, item_id=old.question["id"])
        again = await stream(server, retry)

        assert again.text == "New."
        assert heard(model) == [("user", COVERED), ("assistant", "Before."), ("user", "What is a topic?")]

    async def test_a_long_thread_is_cut_behind_its_first_question(self, source: CourseSource):
        model = says(*map(str, range(15)))
        server = RagChatServer(MemoryStore(), sources=[source], model=model)
        first = await stream(server, question(COVERED))
        for _ in range(14):
            await stream(server, question("What is a topic?", first.thread_id))

        spoken = heard(model)

        assert spoken[0] == ("user", COVERED)
        assert spoken[-2:] == [("assistant", "13"), ("user", "What is a topic?")]
        assert ("assistant", "0") not in spoken

    async def test_a_site_says_how_much_of_a_thread_the_model_is_told(self, source: CourseSource):
        model = says(*map(str, range(4)))
        history = HistoryOptions(items=2)
        server = RagChatServer(MemoryStore(), sources=[source], model=model, history=history)
        first = await stream(server, question(COVERED))
        for _ in range(3):
            await stream(server, question("What is a topic?", first.thread_id))

        topic = ("user", "What is a topic?")
        assert heard(model) == [("user", COVERED), topic, ("assistant", "2"), topic]

    async def test_a_weak_search_asks_no_model(self, source: CourseSource):
        model = says()
        server = RagChatServer(MemoryStore(), sources=[source], model=model)

        answer = await stream(server, question(UNCOVERED))

        assert model.calls == ()
        assert "does not cover" in answer.text
        assert answer.annotations == []

    async def test_the_open_page_is_told_before_the_conversation(self, source: CourseSource):
        model = says("Yes.")
        server = RagChatServer(MemoryStore(), sources=[source], model=model)
        page = {"title": "Nodes", "path": "/nodes", "headings": ["a", 3, "b"], "version": 7}

        await stream(server, {**question(COVERED), "metadata": {"pageContext": page}})

        note, asked = heard(model)
        assert '{"open page":{"title":"Nodes","path":"/nodes"}}' in note[1]
        assert asked == ("user", COVERED)

    async def test_hooks_see_the_page_and_the_metadata(self, source: CourseSource):
        seen: list[RequestContext] = []

        class Own(RagChatServer):
            async def retrieve(self, question: str, context: RequestContext) -> Retrieved:
                seen.append(context)
                return await super().retrieve(question, context)

        server = Own(MemoryStore(), sources=[source], model="extractive")
        page = {"title": "x" * 2000, "headings": ["a", 3, "b"], "unknown": 1}

        await stream(server, {**question(COVERED), "metadata": {"pageContext": page, "more": [1]}})

        [context] = seen
        assert context.page == PageContext(title="x" * 1000, headings=("a", "", "b"))
        assert context.metadata["more"] == [1]
        assert context.owner == ("", "ada")


class TestChanges:
    async def test_a_site_has_its_own_instructions_and_tools(self, source: CourseSource):
        used = []

        @function_tool
        def timetable() -> str:
            """When the lectures are."""
            used.append(True)
            return "Mondays"

        model = ScriptedModel([[function_call("timetable", {}, call_id="c")], [assistant_message("On Mondays [1].")]])
        server = RagChatServer(
            MemoryStore(), sources=[source], model=model, instructions="Be brief.", tools=[timetable]
        )

        answer = await stream(server, question(COVERED))

        assert used == [True]
        assert model.last_call.system_instructions == "Be brief."
        assert {tool.name for tool in model.last_call.tools} == {
            "search_course",
            "read_course_page",
            "course_outline",
            "timetable",
        }
        assert (answer.text, len(answer.annotations)) == ("On Mondays.", 1)

    async def test_a_site_s_own_agent_gets_the_passages_first_and_is_cited(self, source: CourseSource):
        model = says("Mine [1].")
        agent = Agent[TurnContext](name="mine", instructions="My own.", model=model)
        server = RagChatServer(MemoryStore(), sources=[source], agent=agent)

        answer = await stream(server, question(COVERED))

        assert model.last_call.system_instructions == "My own."
        assert model.last_call.input[-1]["type"] == "function_call_output"
        assert len(answer.annotations) == 1

    async def test_a_subclass_adds_to_what_an_answer_is(self, source: CourseSource):
        answering = Agent[TurnContext](name="other", model=says("Other [1]."))

        class Own(RagChatServer):
            async def respond(self, thread, input_user_message, context):
                thread.title = "Titled"
                async for event in self.answer(thread, input_user_message, context, agent=answering):
                    yield event

        answer = await stream(Own(MemoryStore(), sources=[source], model="extractive"), question(COVERED))

        assert answer.text == "Other."
        assert [event["thread"]["title"] for event in answer.of("thread.updated")] == ["Titled"]

    async def test_limits_are_a_site_s_own(self, source: CourseSource):
        limits = RequestLimits(message_characters=10)
        server = RagChatServer(MemoryStore(), sources=[source], model="extractive", limits=limits)

        with pytest.raises(Exception, match="too long"):
            await server.process(orjson.dumps(question("x" * 11)), ADA)

    def test_a_server_without_sources_is_refused(self):
        with pytest.raises(ValueError):
            RagChatServer(MemoryStore(), sources=[], model="extractive")


class TestProcess:
    @pytest.mark.parametrize("kind", [bytes, bytearray, lambda body: body.decode()], ids=["bytes", "bytearray", "str"])
    async def test_it_takes_a_request_in_any_form_that_chatkit_takes(self, server: RagChatServer, kind):
        result = await server.process(kind(orjson.dumps(request("threads.list"))), ADA)

        assert isinstance(result, NonStreamingResult)
        assert orjson.loads(result.json) == {"data": [], "has_more": False}

    async def test_tags_are_part_of_the_question(self, source: CourseSource):
        model = says("Yes.")
        server = RagChatServer(MemoryStore(), sources=[source], model=model)
        asked = message(COVERED)
        asked["content"].append({"type": "input_tag", "id": "t", "text": "Lab 3", "data": {}, "interactive": False})

        await stream(server, request("threads.create", input=asked))

        assert heard(model) == [("user", f"{COVERED}\nLab 3")]


class Opening:
    """A source or a store that notes when it is opened and closed."""

    def __init__(self, name: str, log: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.log = log
        self.fails = fails

    async def open(self) -> None:
        if self.fails:
            raise StoreUnavailable(self.name)
        self.log.append(f"open {self.name}")

    async def close(self) -> None:
        self.log.append(f"close {self.name}")

    async def ping(self) -> None: ...

    async def search(self, _question: str, _context: RequestContext, *, limit: int | None = None) -> Retrieved:
        return Retrieved()


class OpeningStore(Opening, MemoryStore):
    def __init__(self, log: list[str]) -> None:
        Opening.__init__(self, "store", log)
        MemoryStore.__init__(self)


class TestOpening:
    def sources(self, log: list[str], *, failing: bool) -> Sequence[Opening]:
        return [Opening("course", log), Opening("library", log, fails=failing)]

    async def test_what_is_opened_is_closed_in_reverse(self):
        log: list[str] = []
        server = RagChatServer(OpeningStore(log), sources=self.sources(log, failing=False), model="extractive")

        await server.open()
        await server.close()
        await server.close()

        assert log == ["open store", "open course", "open library", "close library", "close course", "close store"]

    async def test_a_part_that_fails_to_open_leaves_nothing_open(self):
        log: list[str] = []
        server = RagChatServer(OpeningStore(log), sources=self.sources(log, failing=True), model="extractive")

        with pytest.raises(StoreUnavailable):
            await server.open()

        assert log == ["open store", "open course", "close course", "close store"]
