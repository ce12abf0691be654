"""The golden questions of the example course, asked over the wire and both interfaces of a model.

The model is a program, and does as the instructions say: it answers from the passages that it is given, cites them by
their numbers, and searches again where they are not from the page that holds the answer.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.openai_server import INTERFACES, model_at
from chatkit_rag.agent.tools import SEARCH_COURSE
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import nobody
from chatkit_rag.documents import page_url
from chatkit_rag.evaluation.golden import GoldenQuestion, read_golden
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from chatkit_rag.testing import FakeModelServer, ToolCall
from protocol.frames import Answer, ask

pytestmark = pytest.mark.anyio

GOLDEN = read_golden(Path(__file__).parents[2] / "examples" / "course" / "golden.jsonl")
INVENTED = "Another [99], see https://evil.example/?q=1 or [this](https://evil.example/p) [0]."
AT_ONCE = 8
BETWEEN_HEADINGS = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "


@dataclass(frozen=True, slots=True)
class Told:
    """What a request tells the model, in either interface's words."""

    question: str
    passages: list[dict[str, Any]]
    """Those of the newest search."""
    searches: int

    @property
    def numbers(self) -> list[int]:
        """What they are cited by."""
        return [passage["number"] for passage in self.passages]

    @classmethod
    def by(cls, sent: dict[str, Any]) -> "Told":
        items = sent.get("input") or sent["messages"]
        outputs = [item.get("output") or item.get("content") for item in items if _is_output(item)]
        questions = [item["content"] for item in items if item.get("role") == "user"]
        return cls(questions[-1], json.loads(outputs[-1])["passages"], len(outputs))


def _is_output(item: dict[str, Any]) -> bool:
    return item.get("type") == "function_call_output" or item.get("role") == "tool"


@dataclass(frozen=True, slots=True)
class Asked:
    """A golden question, what the model was told for it in each of its turns, and the answer."""

    golden: GoldenQuestion
    told: list[Told]
    answer: Answer


@pytest.fixture(scope="module")
async def pages(course_index_path: Path) -> list[PageRecord]:
    """The course's pages, as they were read."""
    async with EdgeIndex(course_index_path) as index:
        return await index.records()


@pytest.fixture(scope="module", params=INTERFACES)
async def asked(request: pytest.FixtureRequest, course_index_path: Path, pages: list[PageRecord]) -> list[Asked]:
    """Every golden question, asked in a thread of its own."""
    path_of = {record.document.title: record.document.path for record in pages}
    holding = {golden.question: golden.page for golden in GOLDEN}

    def say(sent: dict[str, Any]) -> str | ToolCall:
        told = Told.by(sent)
        found = holding[told.question] in [None, *(path_of[passage["page"]] for passage in told.passages)]
        if not found and told.searches == 1:
            return ToolCall(SEARCH_COURSE, {"query": told.question})
        return " ".join([*(f"Claim {number} [{number}]." for number in told.numbers), INVENTED])

    with FakeModelServer(reply=say, piece=12) as model:
        source = CourseSource(EdgeIndex(course_index_path))
        server = RagChatServer(MemoryStore(), sources=[source], model=model_at(model, interface=request.param))
        chat = ChatApp(server, authenticate=nobody, options=AppOptions(local_reader=True, streams_per_reader=0))
        transport, some = httpx.ASGITransport(chat), asyncio.Semaphore(AT_ONCE)

        async def answer(golden: GoldenQuestion) -> Answer:
            async with some:
                return await ask(http, golden.question)

        async with chat.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answers = await asyncio.gather(*map(answer, GOLDEN))
        told = [Told.by(sent) for sent in model.requests]
    return [
        Asked(golden, [one for one in told if one.question == golden.question], answer)
        for golden, answer in zip(GOLDEN, answers, strict=True)
    ]


async def test_nine_answers_in_ten_begin_after_one_call_of_the_model(asked: list[Asked]):
    answerable = [one for one in asked if one.golden.page is not None]

    at_once = [one for one in answerable if len(one.told) == 1 and one.answer.deltas[0].startswith("Claim")]

    print(f"answered after one call: {len(at_once)} of {len(answerable)}")
    assert len(at_once) >= 0.9 * len(answerable)


async def test_all_that_is_cited_is_a_passage_of_the_turn_at_an_anchor_of_its_page(
    asked: list[Asked], pages: list[PageRecord]
):
    addresses = {
        (record.document.title, " > ".join(section.heading_path), page_url("", record.document.path, section.anchor))
        for record in pages
        for section in record.document.sections
    }

    cited = 0
    for one in asked:
        passages = one.told[-1].passages if one.told else []
        assert len(one.answer.annotations) == len(passages)
        for passage, annotation in zip(passages, one.answer.annotations, strict=True):
            source = annotation["source"]
            assert (passage["page"], passage["heading"], source["url"]) in addresses
            assert source["title"] == passage["heading"].replace(" > ", BETWEEN_HEADINGS)
            assert one.answer.text[: annotation["index"]].endswith(f"Claim {passage['number']}")
            cited += 1
    print(f"citations: {cited}")
    assert cited > 3 * len(asked)


async def test_no_number_and_no_address_that_was_invented_gets_through(asked: list[Asked]):
    answered = [one for one in asked if one.told]

    assert answered
    for one in answered:
        claims = "".join(f"Claim {number}. " for number in one.told[-1].numbers)
        assert one.answer.text == "".join(one.answer.deltas) == f"{claims}Another, see evil.example or [this]."
        assert "evil.example/" not in json.dumps(one.answer.events)
