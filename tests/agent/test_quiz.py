"""A quiz on the open page, over the wire: drafted by a model of either interface, or made of the page itself."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from chatkit.types import InferenceOptions, UserMessageItem, UserMessageTextContent

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.quiz.asking import asks_for_quiz
from chatkit_rag.agent.quiz.cloze import BLANK
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.context import utc_now
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer
from chatkit_rag.testing.faults import Fault
from protocol.frames import Answer, ask, call, items_of, message, request, stream

pytestmark = pytest.mark.anyio

PAGE = "/module-3/week-5/pid-control"
EVIDENCE = "The proportional term acts on the present."
SECRET = "the present, which nobody may know yet"


def drafted(number: int = 0, **changes: Any) -> dict[str, Any]:
    question = {
        "question": f"Question {number}: what does the proportional term act on?",
        "answer": f"{SECRET} {number}",
        "wrong": ["the past", "the future", "nothing"],
        "passage": 3,
        "evidence": EVIDENCE,
        "explanation": "It works like a spring; see https://evil.example/path.",
    }
    return {**question, **changes}


def draft(*questions: dict[str, Any]) -> str:
    return json.dumps({"questions": questions})


@asynccontextmanager
async def client_of(model: Any, index: EdgeIndex) -> AsyncGenerator[httpx.AsyncClient]:
    server = RagChatServer(MemoryStore(), sources=[CourseSource(index)], model=model)
    chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True))
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer=draft(*(drafted(number) for number in range(5)))) as model:
        yield model


@pytest.fixture
async def reader(model: FakeModelServer, course_index: EdgeIndex) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(model_at(model), course_index) as http:
        yield http


@pytest.fixture(params=INTERFACES)
async def each_reader(
    request: pytest.FixtureRequest, model: FakeModelServer, course_index: EdgeIndex
) -> AsyncIterator[httpx.AsyncClient]:
    """A reader by each interface of the model."""
    async with client_of(model_at(model, interface=request.param), course_index) as http:
        yield http


@pytest.fixture
async def plain_reader(course_index: EdgeIndex) -> AsyncIterator[httpx.AsyncClient]:
    """A reader of a chat without a language model."""
    async with client_of("extractive", course_index) as http:
        yield http


async def quiz(http: httpx.AsyncClient, page: str = PAGE, text: str = "Go", **fields: Any) -> Answer:
    wish = message(text, **{"inference_options": {"tool_choice": {"id": "quiz"}}, **fields})
    context = {"metadata": {"pageContext": {"path": page}}} if page else {}
    return await stream(http, {**request("threads.create", input=wish), **context})


def questions_of(answer: Answer) -> dict[str, Any]:
    [item] = [done["item"] for done in answer.of("thread.item.done") if done["item"]["type"] == "structured_input"]
    return item


async def give(http: httpx.AsyncClient, thread_id: str, item: dict[str, Any], *answers: str) -> Answer:
    given = {f"q{number}": {"values": [value]} for number, value in enumerate(answers, start=1) if value}
    submission = {"status": "answered", "answers": given}
    return await stream(
        http, request("threads.add_structured_input", thread_id=thread_id, item_id=item["id"], input=submission)
    )


class TestWithAModel:
    async def test_its_questions_are_asked_and_the_answers_are_checked_explained_and_linked(
        self, each_reader: httpx.AsyncClient, model: FakeModelServer
    ):
        asked = await quiz(each_reader)
        item = questions_of(asked)

        answer = await give(each_reader, asked.thread_id, item, f"{SECRET} 0", "the past")

        assert len(item["inputs"]) == 5
        assert {option["value"] for option in item["inputs"][0]["options"]} == {
            f"{SECRET} 0",
            "the past",
            "the future",
            "nothing",
        }
        assert answer.text.startswith("**1 of 5 right**\n\n1. **Right.** ")
        assert f"2. **Not quite.** {SECRET} 1" in answer.text
        assert answer.text.count("**Not answered.**") == 3
        assert "evil.example/path" not in answer.text
        urls = {annotation["source"]["url"] for annotation in answer.annotations}
        assert urls == {f"{PAGE}#what-each-term-does"}
        assert len(answer.annotations) == 5
        assert len(model.requests) == 1

    async def test_free_answers_are_compared_without_marks_and_capitals(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        model.answer = draft(*(drafted(number, answer="the present", wrong=[]) for number in range(3)))
        asked = await quiz(reader)
        item = questions_of(asked)

        answer = await give(reader, asked.thread_id, item, "  The Present! ", "the past", "")

        assert [one["type"] for one in item["inputs"]] == ["freeform"] * 3
        assert answer.text.startswith("**1 of 3 right**")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"evidence": "The derivative term acts on the weather."},
            {"passage": 1},
            {"passage": 99},
            {"evidence": "The"},
            {"wrong": ["the past", "The past", "nothing"]},
            {"answer": "the past"},
            {"question": " "},
            {"answer": "x" * 300},
        ],
        ids=["invented", "elsewhere", "no passage", "anywhere", "twice", "no choice", "empty", "long"],
    )
    async def test_what_the_page_does_not_prove_is_not_asked(
        self, reader: httpx.AsyncClient, model: FakeModelServer, wrong: dict[str, Any]
    ):
        model.answer = draft(drafted(0, **wrong), *(drafted(number) for number in range(1, 4)))

        item = questions_of(await quiz(reader))

        assert [one["question"][:10] for one in item["inputs"]] == ["Question 1", "Question 2", "Question 3"]

    @pytest.mark.parametrize("answer", [draft(drafted(), drafted(1)), "No.", '{"questions": 7}'])
    async def test_where_too_few_are_left_the_page_itself_makes_them(
        self, reader: httpx.AsyncClient, model: FakeModelServer, answer: str
    ):
        model.answer = answer

        item = questions_of(await quiz(reader))

        assert all(BLANK in one["question"] for one in item["inputs"])

    async def test_a_model_that_is_away_spoils_no_quiz(self, reader: httpx.AsyncClient, model: FakeModelServer):
        model.fault = Fault("server_error")

        item = questions_of(await quiz(reader))

        assert model.fired["server_error"] == 1
        assert len(item["inputs"]) == 5

    async def test_no_answer_leaves_before_the_reader_has_given_theirs(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        model.answer = draft(*(drafted(number, wrong=[]) for number in range(3)))

        asked = await quiz(reader)
        thread = await call(reader, "threads.get_by_id", thread_id=asked.thread_id)
        items = await items_of(reader, asked.thread_id)

        assert SECRET not in json.dumps([asked.events, thread, items])
        assert "works like a spring" not in json.dumps([asked.events, thread, items])
        answer = await give(reader, asked.thread_id, questions_of(asked), "?")
        assert SECRET in answer.text

    async def test_later_turns_know_of_the_quiz(self, reader: httpx.AsyncClient, model: FakeModelServer):
        asked = await quiz(reader)
        await give(reader, asked.thread_id, questions_of(asked), "the past")

        await ask(reader, "How do I create a ROS2 node?", asked.thread_id)

        told = json.dumps(model.requests[-1])
        assert "Question 0: what does the proportional term act on?" in told
        assert "0 of 5 right" in told


class TestWithoutAModel:
    async def test_a_term_is_left_out_of_the_pages_own_sentences(self, plain_reader: httpx.AsyncClient):
        first, second = questions_of(await quiz(plain_reader)), questions_of(await quiz(plain_reader))

        assert first["inputs"] == second["inputs"]
        assert "The _____ term acts on the present." in [one["question"] for one in first["inputs"]]
        for one in first["inputs"]:
            values = [option["value"] for option in one["options"]]
            assert len(set(values)) == len(values) >= 3

    async def test_every_answer_is_among_the_options_and_linked_to_its_paragraph(self, plain_reader: httpx.AsyncClient):
        asked = await quiz(plain_reader)
        item = questions_of(asked)
        unknown = await give(plain_reader, asked.thread_id, item)
        told = [line.split("** ")[1].split(": ")[0] for line in unknown.text.split("\n\n")[1:]]

        again = await quiz(plain_reader)
        answer = await give(plain_reader, again.thread_id, questions_of(again), *told)

        assert answer.text.startswith("**5 of 5 right**")
        assert len(answer.annotations) == 5
        assert all(found["source"]["url"].startswith(f"{PAGE}#") for found in answer.annotations)

    async def test_where_no_page_is_open_the_reader_is_told(self, plain_reader: httpx.AsyncClient):
        assert "Open a page" in (await quiz(plain_reader, page="")).text
        assert "Open a page" in (await quiz(plain_reader, page="/nowhere")).text

    async def test_a_page_that_says_little_makes_none(self, plain_reader: httpx.AsyncClient):
        assert "too little text" in (await quiz(plain_reader, page="/module-5")).text

    async def test_one_may_talk_of_something_else_before_one_answers(self, plain_reader: httpx.AsyncClient):
        asked = await quiz(plain_reader)
        await ask(plain_reader, "How do I create a ROS2 node?", asked.thread_id)

        answer = await give(plain_reader, asked.thread_id, questions_of(asked), "x")
        later = await ask(plain_reader, "How do I create a ROS2 node?", asked.thread_id)

        assert answer.text.startswith("**0 of 5 right**")
        assert "right**" not in later.text

    async def test_each_quiz_is_checked_once(self, plain_reader: httpx.AsyncClient):
        first = await quiz(plain_reader)
        await give(plain_reader, first.thread_id, questions_of(first), "x")
        wish = message("Quiz me on this page")
        context = {"pageContext": {"path": "/module-1/week-1/nodes"}}
        asked = request("threads.add_user_message", thread_id=first.thread_id, input=wish)
        second = await stream(plain_reader, {**asked, "metadata": context})

        answer = await give(plain_reader, first.thread_id, questions_of(second), "x")

        assert all("/module-1/week-1/nodes" in found["source"]["url"] for found in answer.annotations)

    async def test_answers_are_taken_once(self, plain_reader: httpx.AsyncClient):
        asked = await quiz(plain_reader)
        item = questions_of(asked)
        await give(plain_reader, asked.thread_id, item, "x")

        again = request(
            "threads.add_structured_input",
            thread_id=asked.thread_id,
            item_id=item["id"],
            input={"status": "skipped", "answers": {}},
        )

        assert (await plain_reader.post("/", json=again)).status_code == 409


class TestAskingForIt:
    @pytest.mark.parametrize(
        "text",
        [
            "Quiz me on this page",
            "quiz me!",
            "Please test me on this chapter.",
            "Frag mich zu dieser Seite ab",
            "mach ein Quiz",
        ],
    )
    def test_in_so_many_words(self, text: str):
        assert asks_for_quiz(said(text))

    @pytest.mark.parametrize("text", ["What is a quiz?", "How do I test me a node?", "quiz", "test the robot", ""])
    def test_and_in_no_others(self, text: str):
        assert not asks_for_quiz(said(text))

    def test_another_tool_is_no_quiz(self):
        assert not asks_for_quiz(said("Quiz me", tool_choice={"id": "search"}))


def said(text: str, **options: Any) -> UserMessageItem:
    return UserMessageItem(
        id="m",
        thread_id="t",
        created_at=utc_now(),
        content=[UserMessageTextContent(text=text)],
        inference_options=InferenceOptions(**options),
    )
