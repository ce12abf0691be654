"""The golden questions of the example course, asked as a reader asks them: what is found, cited and declined."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.errors import ConfigurationError, EvaluationError
from chatkit_rag.evaluation.golden import GoldenQuestion, evaluate_golden, read_golden
from chatkit_rag.server import RagChatServer

pytestmark = pytest.mark.anyio

COURSE = Path(__file__).parent.parent.parent / "examples" / "course"


async def test_the_course_answers_what_it_covers_and_declines_what_it_does_not(server: RagChatServer):
    report = await evaluate_golden(server, read_golden(COURSE / "golden.jsonl"))
    print(report.to_json())

    assert report.figures["hits@5"] >= 0.95
    assert report.figures["headings@1"] >= 0.80
    # Of the 28 that are to be declined, 18 are about the course's own subject: with four wrong, 14 of those are right.
    assert report.figures["declined"] >= 0.85
    assert report.figures["answered"] >= 0.95


async def test_a_slip_of_the_fingers_does_not_lose_the_page(server: RagChatServer):
    report = await evaluate_golden(server, read_golden(COURSE / "golden-misspelled.jsonl"))
    print(report.to_json())

    assert report.figures["hits@5"] >= 0.85


async def test_questions_that_share_no_word_with_the_heading_still_find_their_page(server: RagChatServer):
    # Search by words seldom finds their exact heading: what it does reach may not get worse.
    report = await evaluate_golden(server, read_golden(COURSE / "golden-indirect.jsonl"))
    print(report.to_json())

    assert report.figures["hits@5"] >= 0.85
    assert report.figures["headings@1"] >= 0.35
    assert report.figures["declined"] >= 0.85


async def test_each_kind_of_failure_is_a_miss_that_says_what_was_found(server: RagChatServer):
    where = "/module-1/week-1/nodes"
    questions = [
        GoldenQuestion(question="How do I create a ROS2 node?", page=where),
        GoldenQuestion(question="How do I create a ROS2 node?", page="/nowhere", heading="Nothing"),
        GoldenQuestion(question="who painted the mona lisa", page="/elsewhere"),
        GoldenQuestion(question="who painted the mona lisa", page=None),
        GoldenQuestion(question="What is Physical AI?", page=None),
    ]

    report = await evaluate_golden(server, questions)

    assert report.figures["hits@5"] == pytest.approx(1 / 3)
    assert report.figures["headings@1"] == pytest.approx(1 / 3)
    assert report.figures["answered"] == pytest.approx(2 / 3)
    assert report.figures["declined"] == 0.5
    assert [miss.expected for miss in report.misses] == ["/nowhere > Nothing", "/elsewhere", ""]
    assert [bool(miss.found) for miss in report.misses] == [True, False, True]


async def test_a_figure_below_its_bound_is_told_with_both(server: RagChatServer):
    report = await evaluate_golden(server, [GoldenQuestion(question="What is Physical AI?", page="/nowhere")])

    [told] = report.shortfalls(["0.5", "answered=1"])

    assert told == "hits@5 is 0.0000, and should be at least 0.5"


@pytest.mark.parametrize(
    ("bound", "told"), [("precision=1", "are declined"), ("much", "write 0.9"), ("declined=", "0.9")]
)
async def test_a_bound_that_is_none_is_explained(server: RagChatServer, bound: str, told: str):
    report = await evaluate_golden(server, [GoldenQuestion(question="What is Physical AI?", page=None)])

    with pytest.raises(ConfigurationError, match=told):
        report.shortfalls([bound])


@pytest.mark.parametrize("line", ["{", "[]", '{"question": 1, "page": null}', '{"page": null}', '{"question": "a"}'])
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str):
    file = tmp_path / "golden.jsonl"
    file.write_text(json.dumps({"question": "a", "page": None}) + f"\n\n{line}\n")

    with pytest.raises(EvaluationError, match="line 3"):
        read_golden(file)


def test_a_file_as_windows_writes_it_is_read(tmp_path: Path):
    file = tmp_path / "golden.jsonl"
    file.write_text('{"question": "a", "page": null}\r\n{"question": "b", "page": "/b"}\r\n', "utf-8-sig", newline="")

    assert read_golden(file) == [GoldenQuestion(question="a", page=None), GoldenQuestion(question="b", page="/b")]


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_file_without_questions_is_named(tmp_path: Path, content: Any):
    file = tmp_path / "golden.jsonl"
    if content is not None:
        file.write_text(content)

    with pytest.raises(EvaluationError, match=r"golden\.jsonl"):
        read_golden(file)
