"""What is searched for a message."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from chatkit.types import InferenceOptions, UserMessageItem, UserMessageTextContent

from chatkit_rag.agent.queries import goes_on, search_query
from chatkit_rag.evaluation.golden import read_golden

GOLDEN = Path(__file__).parents[2] / "examples" / "course" / "golden.jsonl"
NODE = "How do I create a ROS 2 node?"


def asked(text: str, quoted: str | None = None) -> UserMessageItem:
    return UserMessageItem(
        id="u",
        thread_id="t",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        content=[UserMessageTextContent(text=text)],
        quoted_text=quoted,
        inference_options=InferenceOptions(),
    )


def query(*newest_first: str) -> str:
    return search_query(map(asked, newest_first))


@pytest.mark.parametrize(
    "text",
    [
        "and in Python?",
        "In C++?",
        "What about services?",
        "why?",
        "how do I stop it?",
        "Give me an example!",
        "und mit C++?",
        "et en Python ?",
        "¿y en Python?",
    ],
)
def test_a_follow_up_is_searched_with_the_question_that_it_goes_on_from(text: str):
    assert query(text, NODE) == f"{NODE}\n{text}"
    assert query("and why?", text, NODE) == f"{NODE}\nand why?"


def test_it_is_searched_alone_where_nothing_came_before():
    assert query("and in Python?") == "and in Python?"
    assert search_query([]) == ""


def test_no_golden_question_is_searched_in_another_way_behind_another():
    questions = [golden.question for golden in read_golden(GOLDEN)]

    assert [text for text in questions if goes_on(text)] == []
    assert [query(text, NODE) for text in questions] == questions


def test_a_selected_text_is_searched_behind_the_question_up_to_a_length():
    assert search_query([asked("why is that?", "Spinning hands the thread over."), asked(NODE)]) == (
        "why is that?\nSpinning hands the thread over."
    )
    assert len(search_query([asked("why?", "x" * 50_000)])) < 500


def test_of_what_was_pasted_the_first_line_and_the_last_are_searched():
    log = "a line of something else\n" * 100

    assert query(f"Why does this fail?\n{log}KeyError: 'robot'\n\n") == "Why does this fail?\nKeyError: 'robot'"
    assert query("x" * 1_000) == "x" * 1_000
    assert query("x" * 1_001) == f"{'x' * 400}\n{'x' * 400}"
