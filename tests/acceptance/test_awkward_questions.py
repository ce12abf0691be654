"""Messages that nobody has thought of: each has an outcome that was decided, over the wire."""

# ruff: noqa: RUF001 - words of other scripts

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.openai_server import model_at
from chatkit_rag.agent.phrases import NOT_COVERED
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer
from protocol.frames import COVERED, Answer, ask, message, request, stream

pytestmark = pytest.mark.anyio

NODES = "/module-1/week-1/nodes"
COURSE = Path(__file__).parents[2] / "examples" / "course" / "docs"


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="Yes [1].") as model:
        yield model


@pytest.fixture
async def reader(course_index: EdgeIndex, model: FakeModelServer) -> AsyncIterator[httpx.AsyncClient]:
    """One whose browser is in Urdu, over an English course."""
    chat = ChatApp(
        RagChatServer(MemoryStore(), sources=[CourseSource(course_index)], model=model_at(model)),
        authenticate=nobody,
        options=AppOptions(local_reader=True),
    )
    headers = {"Accept-Language": "ur-PK,ur;q=0.9,en;q=0.5"}
    transport = httpx.ASGITransport(chat)
    async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
        yield http


def told(model: FakeModelServer) -> list[dict[str, Any]]:
    """What the model was given last, behind its instructions."""
    return model.requests[-1]["input"]


def searched(model: FakeModelServer) -> str:
    """What was searched before it was asked."""
    [call] = [item for item in told(model) if item.get("type") == "function_call"]
    return json.loads(call["arguments"])["query"]


async def sent(reader: httpx.AsyncClient, text: str, **fields: Any) -> Answer:
    """The answer to a message with fields of its own."""
    return await stream(reader, request("threads.create", input=message(text, **fields)))


class TestWithoutWords:
    @pytest.mark.parametrize(
        "text", ["🤖🤖👍🏽", "🇵🇰", "???", "\u200b\u200d"], ids=["emoji", "flag", "signs", "nothing seen"]
    )
    async def test_what_says_nothing_is_declined_in_the_readers_language(
        self, reader: httpx.AsyncClient, model: FakeModelServer, text: str
    ):
        answer = await ask(reader, text)

        assert answer.text == NOT_COVERED["ur"]
        assert model.requests == []

    async def test_a_tag_alone_is_asked_for_by_its_text(self, reader: httpx.AsyncClient, model: FakeModelServer):
        tag = {"type": "input_tag", "id": "t", "text": "Nodes, the building blocks", "data": {}, "interactive": False}

        answer = await sent(reader, "", content=[tag])

        assert answer.annotations[0]["source"]["url"].startswith(NODES)
        assert searched(model) == tag["text"]


class TestLongMessages:
    async def test_one_of_32_000_characters_is_told_whole_and_searched_by_its_first_line_and_its_last(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        asked, said = "Why does my node not start?", "rclpy: cannot spin the node"
        log = "".join(f"{number} of something else entirely\n" for number in range(2_000))
        text = f"{asked}\n{log}"[: 32_000 - len(said) - 1] + f"\n{said}"
        assert len(text) == 32_000

        answer = await ask(reader, text)

        assert text in [item.get("content") for item in told(model)]
        assert searched(model) == f"{asked}\n{said}"
        assert answer.text == "Yes."

    async def test_one_without_lines_is_searched_by_its_ends(self, reader: httpx.AsyncClient, model: FakeModelServer):
        await ask(reader, f"{COVERED} " * 1_000)

        assert len(searched(model)) == 801

    async def test_a_selection_of_50_000_characters_is_cut_and_both_sides_see_that(
        self, reader: httpx.AsyncClient, model: FakeModelServer
    ):
        selected = "\n".join(page.read_text("utf-8") for page in sorted(COURSE.rglob("*.md")))[:50_000]
        assert len(selected) == 50_000

        answer = await sent(reader, COVERED, quoted_text=selected)

        kept = f"{selected[:8_000]} […]"
        assert answer.question["quoted_text"] == kept
        assert f"About this excerpt:\n{kept}\n\n{COVERED}" in [item.get("content") for item in told(model)]
        assert answer.text == "Yes."


class TestLanguages:
    @pytest.mark.parametrize(
        "text",
        [
            "ROS2 میں node کیسے بنائیں؟",
            "ما هو ROS2 node وكيف أنشئه؟",
            "如何 create a ROS2 node جديد?",
            "मैं ROS2 node कैसे बनाऊँ?",
            f"\N{RIGHT-TO-LEFT OVERRIDE}{COVERED}\N{POP DIRECTIONAL FORMATTING}",
            "Ｈｏｗ ｄｏ Ｉ ｃｒｅａｔｅ ａ ＲＯＳ２ ｎｏｄｅ？",
        ],
        ids=["Urdu", "Arabic", "three scripts", "Hindi", "direction", "full width"],
    )
    async def test_a_question_in_any_script_about_what_the_course_names_is_answered(
        self, reader: httpx.AsyncClient, model: FakeModelServer, text: str
    ):
        answer = await ask(reader, text)

        assert answer.annotations[0]["source"]["url"].startswith(NODES)
        assert [item["content"] for item in told(model) if item.get("role") == "user"][-1] == text

    @pytest.mark.parametrize("text", ["پیزا کیسے بنایا جاتا ہے؟", "Kubernetes میں pizza کیسے بنائیں؟"])
    async def test_one_that_names_nothing_of_the_course_is_declined(
        self, reader: httpx.AsyncClient, model: FakeModelServer, text: str
    ):
        answer = await ask(reader, text)

        assert answer.text == NOT_COVERED["ur"]
        assert model.requests == []
