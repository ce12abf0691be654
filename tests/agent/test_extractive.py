"""The answer without a language model."""

# ruff: noqa: RUF001 - sentences of other scripts end in other signs

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest

from chatkit_rag.agent.citations import CitationReader
from chatkit_rag.agent.models.extractive import ExtractiveModel, compose_from
from chatkit_rag.agent.phrases import NOT_COVERED
from chatkit_rag.documents import Passage
from protocol.frames import COVERED, ask

pytestmark = pytest.mark.anyio


def given(*passages: dict[str, Any] | str, question: str = "How?") -> list[Any]:
    """A conversation as the agent loop hands it over: a question, and what a search found."""
    found = [
        {"number": number, "page": "P", "heading": f"P > H{number}", "relevance": 1.0}
        | (passage if isinstance(passage, dict) else {"text": passage})
        for number, passage in enumerate(passages, start=1)
    ]
    return [
        {"role": "user", "content": question},
        {"type": "function_call", "call_id": "c", "name": "search_course", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": orjson.dumps({"passages": found}).decode()},
    ]


async def whole(conversation: str | list[Any]) -> str:
    response = await ExtractiveModel().get_response(None, conversation)
    [message] = response.output
    return message.content[0].text


async def streamed(conversation: str | list[Any]) -> list[Any]:
    return [event async for event in ExtractiveModel().stream_response(None, conversation)]


CONVERSATIONS = [
    given("One sentence. Another."),
    given("Intro.\n\n```py\nx = a[1]\n\n\ny = 2\n```\n\nAfter.", "Second. " * 40, {"text": "Far.", "relevance": 0.1}),
    given("  leading and  double  spaces \n\n- a\n- b"),
    given(),
    "just a text",
    [],
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
async def test_the_stream_is_the_whole_answer_in_pieces(conversation: str | list[Any]):
    events = await streamed(conversation)

    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    text = await whole(conversation)
    assert "".join(deltas) == text
    assert len(deltas) > 10
    assert events[-1].response.output[0].content[0].text == text
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_nothing_found_is_declined_without_a_citation():
    for conversation in ("just a text", [], given()):
        assert await whole(conversation) == NOT_COVERED["en"]


async def test_another_tool_s_output_is_nothing_found():
    conversation = given()
    for output in ("not json", "[]", '{"passages": 3}', '{"passages": [{"number": 1}]}', "null"):
        conversation[-1]["output"] = output
        assert await whole(conversation) == NOT_COVERED["en"]


async def test_the_last_search_counts():
    conversation = [*given("First."), *given("Second.")]

    assert "Second. [1]" in await whole(conversation)


async def test_it_says_what_it_is():
    assert "no language model" in (await whole(given("Text."))).splitlines()[-1]


async def test_code_is_shown_whole_and_its_citation_stands_in_the_prose():
    fence = "```py\nx = a[1]\n\n\n# [2]\ny = 2\n```"

    text = await whole(given(f"Before.\n\n{fence}\n\nAfter the code.", "Other."))

    assert f"Before. [1]\n\n{fence}" in text
    assert "After the code." not in text


@pytest.mark.parametrize("block", ["```py\nx = 1\n```", "| a |\n|---|\n| 1 |", "$$\nx[1]\n$$"])
async def test_a_passage_without_prose_is_cited_below(block: str):
    assert f"{block}\n\n[1]" in await whole(given(block))


async def test_a_long_passage_is_cut_at_a_paragraph():
    paragraphs = [f"{name} " * 70 for name in ("one", "two", "three")]

    text = await whole(given("\n\n".join(paragraph.strip() for paragraph in paragraphs)))

    assert "one" in text
    assert "two" not in text


async def test_other_passages_are_named_by_their_best_sentence_where_they_fit_nearly_as_well():
    near = {"text": "Something else. Spin the node with spin. A third.", "relevance": 0.7}
    far = {"text": "Spin the node.", "relevance": 0.5}

    text = await whole(given("First.", near, far, question="how to spin a node"))

    assert "- **H2:** Spin the node with spin. [2]" in text
    assert "[3]" not in text


@pytest.mark.parametrize(
    ("text", "question", "sentence"),
    [
        ("کچھ اور بات ہے۔ نوڈ پیغامات بھیجتا ہے۔ تیسری بات۔", "نوڈ کیا بھیجتا ہے؟", "نوڈ پیغامات بھیجتا ہے۔"),
        ("हमें पता है। नोड संदेश भेजता है। तीसरी बात।", "नोड क्या भेजता है?", "नोड संदेश भेजता है।"),
        ("这是别的。节点交换消息。第三句！", "节点做什么？", "节点交换消息。"),
        ("別の話です。ノードは動きます。三つ目！", "ノードとは何ですか？", "ノードは動きます。"),
        ("شيء آخر. هل ترسل العقدة رسائل؟ ثالث.", "ما هي العقدة؟", "هل ترسل العقدة رسائل؟"),
        ("Etwas anderes. Über Knoten laufen Nachrichten. Drittens.", "Knoten?", "Über Knoten laufen Nachrichten."),
    ],
)
async def test_sentences_end_where_their_script_ends_them(text: str, question: str, sentence: str):
    near = {"text": text, "relevance": 0.7}

    answer = await whole(given("First.", near, question=question))

    assert f"- **H2:** {sentence} [2]" in answer


async def test_a_long_passage_of_a_script_without_spaces_is_cut_as_well():
    paragraphs = ["机器人必须保持平衡。" * 20, "电池充电需要两个小时。" * 20]

    answer = await whole(given("\n\n".join(paragraphs)))

    assert f"{paragraphs[0]} [1]" in answer
    assert "电池" not in answer


async def test_a_passage_is_quoted_with_whole_fences_and_cited_once(passages: Sequence[Passage]):
    assert len(passages) > 100
    for passage in passages:
        text = compose_from(given(passage.text))
        reader = CitationReader([passage])
        reader.feed(text)
        reader.close()

        assert text.count("```") % 2 == 0, passage.url
        assert (len(reader.citations), reader.unknown) == (1, 0), passage.url


async def test_readers_see_its_answer_with_links(client: httpx.AsyncClient):
    answer = await ask(client, COVERED)

    assert answer.annotations[0]["source"]["url"].startswith("/module-1/week-1/nodes#")
    assert "[1]" not in answer.text
    assert answer.text.endswith("no language model is configured.*")
