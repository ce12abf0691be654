"""One run of the agent, as ChatKit events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from agents import Agent, Tool, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from chatkit.types import ThreadItemDoneEvent, ThreadMetadata

from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.message import annotation_of, stream_text
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.run import retrieval_first, stream_answer
from chatkit_rag.agent.tools import numbered
from chatkit_rag.context import RequestContext
from chatkit_rag.documents import Citation, Hit, Passage
from chatkit_rag.errors import ModelFailed
from chatkit_rag.sites import Budget
from chatkit_rag.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


def passage(number: int, text: str = "Text.") -> Passage:
    return Passage(
        id=f"p{number}",
        path="/nodes",
        anchor=f"h{number}",
        title="Nodes",
        heading_path=("Nodes", f"Heading {number}"),
        text=text,
        url=f"/nodes#h{number}",
    )


@pytest.fixture
def turn(context: RequestContext) -> TurnContext:
    thread = ThreadMetadata(id="t", created_at=datetime(2030, 1, 1, tzinfo=UTC))
    return TurnContext(thread=thread, store=MemoryStore(), request_context=context)


@function_tool
async def look() -> str:
    """Looks."""
    return "seen"


def agent(*steps: Any, tools: Sequence[Tool] = ()) -> Agent[TurnContext]:
    return Agent[TurnContext](name="test", model=ScriptedModel(steps), tools=list(tools))


async def messages(events: AsyncIterator[Any]) -> list[Any]:
    return [event.item async for event in events if isinstance(event, ThreadItemDoneEvent)]


class TestAnswers:
    async def test_a_cited_passage_becomes_a_link_with_its_headings_and_how_it_begins(self, turn: TurnContext):
        turn.cite(passage(1, "Spin **it**. Then `stop`."))

        [item] = await messages(stream_answer(agent([assistant_message("Yes [1].")]), [], turn))

        [part] = item.content
        [annotation] = part.annotations
        assert (part.text, annotation.index) == ("Yes.", 3)
        assert annotation.source.model_dump(include={"url", "title", "description"}) == {
            "url": "/nodes#h1",
            "title": "Nodes › Heading 1",  # noqa: RUF001 - what readers see
            "description": "Spin it. Then stop.",
        }

    def test_a_link_to_a_passage_that_begins_with_code_shows_the_words_behind_it(self):
        citation = Citation(number=1, passage=passage(1, "```\ncode\n```\n\nWords."), index=0)

        assert annotation_of(citation).source.description == "Words."

    async def test_every_message_of_a_run_gets_an_id_of_ours(self, turn: TurnContext):
        steps = [
            [assistant_message("Let me look.", item_id="__fake_id__"), function_call("look", {}, call_id="c")],
            [assistant_message("Found.", item_id="__fake_id__")],
        ]

        first, second = await messages(stream_answer(agent(*steps, tools=[look]), [], turn))

        assert [first.content[0].text, second.content[0].text] == ["Let me look.", "Found."]
        assert first.id.startswith("msg_")
        assert first.id != second.id

    async def test_a_ready_text_comes_as_a_model_s_would(self, turn: TurnContext):
        ready = [event.model_dump(exclude={"item"}) async for event in stream_text("No.", turn)]
        model = agent([assistant_message("No.")])
        made = [event.model_dump(exclude={"item"}) async for event in stream_answer(model, [], turn)]

        for event in [*ready, *made]:
            event.pop("item_id", None)
        assert ready == made

    async def test_a_run_that_never_comes_to_an_answer_is_a_model_that_failed(self, turn: TurnContext):
        steps = [[function_call("look", {}, call_id=f"c{number}")] for number in range(3)]
        circling = agent(*steps, tools=[look])
        turn.budget = Budget(max_turns=2)

        with pytest.raises(ModelFailed):
            await messages(stream_answer(circling, [], turn))

        assert circling.model.remaining_steps == 1


class TestStopping:
    async def test_closing_the_answer_stops_the_model(self, turn: TurnContext):
        stopped, before = asyncio.Event(), asyncio.all_tasks()

        async def begins_and_waits(_call: Any) -> AsyncIterator[Any]:
            try:
                async for event in ExtractiveModel().stream_response(None, []):
                    yield event
                    if event.type == "response.output_text.delta":
                        await asyncio.Event().wait()
            finally:
                stopped.set()

        slow = agent(ModelStep.stream(begins_and_waits))
        async with asyncio.timeout(5), aclosing(stream_answer(slow, [], turn)) as events:
            async for event in events:
                if event.type == "thread.item.updated" and event.update.type.endswith("text_delta"):
                    break
            assert not stopped.is_set()

        assert stopped.is_set()
        assert asyncio.all_tasks() == before


class TestRetrievalFirst:
    def test_it_looks_like_a_call_of_the_tool_with_numbered_passages(self, turn: TurnContext):
        hits = [Hit(passage=passage(1, 'say "no"\n\n}]'), score=8.0), Hit(passage=passage(2), score=4.0)]

        call, output = retrieval_first("what?", hits, turn)

        assert (call["type"], call["name"]) == ("function_call", "search_course")
        assert call["call_id"] == output["call_id"]
        assert orjson.loads(output["output"])["passages"] == [
            {
                "number": 1,
                "page": "Nodes",
                "heading": "Nodes > Heading 1",
                "relevance": 1.0,
                "text": 'say "no"\n\n}]',
            },
            {"number": 2, "page": "Nodes", "heading": "Nodes > Heading 2", "relevance": 0.5, "text": "Text."},
        ]

    def test_a_passage_keeps_its_number_and_new_ones_go_on(self, turn: TurnContext):
        numbered([Hit(passage=passage(1), score=1.0), Hit(passage=passage(2), score=1.0)], turn.cite)

        again = orjson.loads(
            numbered([Hit(passage=passage(3), score=1.0), Hit(passage=passage(1), score=1.0)], turn.cite)
        )

        assert [found["number"] for found in again["passages"]] == [3, 1]

    @pytest.mark.parametrize("score", [0.0, -1.0])
    def test_a_source_may_score_as_it_likes(self, turn: TurnContext, score: float):
        found = orjson.loads(numbered([Hit(passage=passage(1), score=score)], turn.cite))

        assert found["passages"][0]["number"] == 1
