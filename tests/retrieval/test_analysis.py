"""Text to weighted terms."""

import uuid
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval import analysis
from chatkit_rag.retrieval.analysis import (
    PHRASE_WEIGHT,
    Analyser,
    SparseVector,
    question_vector,
)
from chatkit_rag.retrieval.counting import Reading
from chatkit_rag.retrieval.phrases import is_phrase, phrases
from chatkit_rag.retrieval.segmentation import is_unspaced, words

ANALYSER = Analyser()


def passage(text: str = "", **fields: Any) -> Passage:
    given_ = {"id": str(uuid.uuid4()), "path": "/page", "anchor": "a", "title": "Title", "url": "/page#a"}
    return Passage(**(given_ | {"heading_path": ("Title", "Heading"), "text": text} | fields))


def indexed(found: Passage, analyser: Analyser = ANALYSER) -> SparseVector:
    [vector] = Reading([found], analyser).vectors(100.0)
    return vector


def weight(word: str, found: Passage) -> float:
    [term] = ANALYSER.terms(word)
    vector = indexed(found)
    return dict(zip(vector.indices, vector.values, strict=True)).get(term, 0.0)


def same(first: str, second: str) -> bool:
    return ANALYSER.question_terms(words(first)) == ANALYSER.question_terms(words(second))


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("ROS2", ["ros", "2"]),
            ("ROS 2", ["ros", "2"]),
            ("Python3.11", ["python", "3", "11"]),
            ("2D", ["2d"]),
            ("it's don\N{RIGHT SINGLE QUOTATION MARK}t", ["its", "dont"]),
            ("snake_case and kebab-case", ["snake", "case", "and", "kebab", "case"]),
            ("Ünïcödé Größe", ["ünïcödé", "größe"]),
            ("/cmd_vel", ["cmd", "vel"]),
            ("", []),
            ("?! …", []),
        ],
    )
    def test_they_are_cut_as_a_student_would_write_them(self, text: str, expected: list[str]):
        assert words(text) == expected


class TestTerms:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("ROS2", "ROS 2"),
            ("ros2 Nodes", "ROS 2 node"),
            ("walking robots", "Walk ROBOT"),
            ("can\N{RIGHT SINGLE QUOTATION MARK}t", "can't"),
            ("the robot's joint", "the robot\N{RIGHT SINGLE QUOTATION MARK}s joint"),
            ("café", "cafe"),
        ],
    )
    def test_what_means_the_same_is_the_same(self, one: str, other: str):
        assert same(one, other)

    @pytest.mark.parametrize(("name", "part"), [("PyTorch", "torch"), ("createPublisher", "publisher")])
    def test_a_name_in_camel_case_is_found_whole_and_by_its_parts(self, name: str, part: str):
        terms = set(ANALYSER.terms(f"Call {name} first."))

        assert set(ANALYSER.question_terms(words(name.lower()))) <= terms
        assert set(ANALYSER.question_terms(words(part))) <= terms

    def test_signs_that_belong_to_a_name_are_part_of_it(self):
        assert not same("C++", "c")
        assert not same("C#", "C++")
        assert same("in c++.", "C++")

    def test_stop_words_are_none(self):
        assert ANALYSER.terms("the of and is") == []

    def test_they_come_in_order_and_as_often_as_they_are_said(self):
        node, topic = ANALYSER.terms("node topic")

        assert ANALYSER.terms("a node, the topic and nodes") == [node, topic, node]

    def test_two_analysers_agree(self):
        assert Analyser().terms("Walking robots") == ANALYSER.terms("Walking robots")
        assert indexed(passage("text"), Analyser()) == indexed(passage("text"))

    @given(st.text())
    def test_a_text_cut_at_its_spaces_has_the_words_of_the_whole(self, text: str):
        assert [word for token in ANALYSER.tokens(text) for word in token.spelled] == [
            word for word in words(text) if not is_unspaced(word)
        ]
        assert sorted(ANALYSER.terms(text)) == sorted(
            term for word in words(text) + ANALYSER.names(text) for term in ANALYSER.word_terms(word)
        )

    def test_another_language_has_its_own_stems_and_stop_words(self):
        german = Analyser(language="german")

        assert german.terms("der Knoten und die Knotens") == german.terms("Knoten Knotens")
        assert len(set(german.terms("Knoten Knotens"))) == 1

    def test_readers_cannot_fill_the_memory_with_words_of_their_own(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(analysis, "_REMEMBERED", 10)
        analyser = Analyser()

        for number in range(100):
            analyser.question_terms(words(f"w{'x' * number}"))

        assert len(analyser._words) <= 10


class TestQuestions:
    @pytest.mark.parametrize(
        "question",
        ["How do I need to calibrate?", "Could you please explain what calibrate would mean", "what's calibrate"],
    )
    def test_words_by_which_people_ask_are_not_asked_about(self, question: str):
        assert ANALYSER.question_terms(words(question)) == ANALYSER.terms("calibrate")

    def test_a_question_of_asking_words_alone_asks_about_them(self):
        assert ANALYSER.question_terms(words("help")) == ANALYSER.terms("help")
        assert ANALYSER.question_terms(words("help")) != []

    def test_asking_words_of_other_languages_are_left_alone(self):
        assert Analyser(language="german").question_terms(words("help")) != []

    def test_saying_a_word_again_adds_nothing_but_phrases(self):
        node, topic = ANALYSER.terms("node topic")

        once, again = question_vector([node, topic]), question_vector([node, topic, topic])

        assert once == again
        assert dict(zip(once.indices, once.values, strict=True)) == {
            node: 1.0,
            topic: 1.0,
            phrases([node, topic])[0]: PHRASE_WEIGHT,
        }

    def test_nothing_asked_is_an_empty_vector(self):
        assert question_vector([]).indices == ()


class TestPhrases:
    def test_every_two_terms_in_a_row_are_one_and_their_order_counts(self):
        one, two, three = ANALYSER.terms("double support phase")

        assert len(set(phrases([one, two, three]))) == 2
        assert phrases([one, two]) != phrases([two, one])

    def test_a_passage_that_says_the_words_in_a_row_holds_the_phrase(self):
        [phrase] = phrases(ANALYSER.terms("double support"))

        assert phrase in indexed(passage("Walking has a double support phase.")).indices
        assert phrase not in indexed(passage("One is double, and another supports.")).indices

    def test_a_word_and_itself_are_no_phrase(self):
        assert phrases(ANALYSER.terms("node nodes")) == []


class TestWeights:
    def test_a_word_of_the_heading_says_more_than_one_of_the_text(self):
        heading = weight("gait", passage("text", heading_path=("Title", "Gait")))
        enclosing = weight("gait", passage("text", heading_path=("Title", "Gait", "Phases")))
        page = weight("gait", passage("text", title="Gait", heading_path=("Gait", "Phases")))

        text = weight("gait", passage("text gait"))

        assert heading > enclosing > page > 0
        assert heading > text > page

    def test_the_pages_title_is_a_heading_for_what_stands_before_the_first_one(self):
        before = weight("gait", passage("text", title="Gait", heading_path=("Gait",)))
        behind = weight("gait", passage("text", title="Gait", heading_path=("Gait", "Phases")))

        assert before > behind

    def test_the_section_of_the_site_counts_and_the_pages_own_name_does_not(self):
        assert weight("walking", passage("text", path="/walking-robots/page")) > 0
        assert weight("walking", passage("text", path="/robots/walking")) == 0

    @pytest.mark.parametrize("text", ["A **gait** is", "A *gait* is", "The **common gait cycle** is"])
    def test_an_emphasised_word_says_more(self, text: str):
        assert weight("gait", passage(text)) > weight("gait", passage(text.replace("*", "")))

    @pytest.mark.parametrize("text", ["2 * gait * 3", "```\n**gait**\n```", "a*gait*b", "** gait"])
    def test_stars_that_emphasise_nothing_count_nothing(self, text: str):
        assert weight("gait", passage(text)) == pytest.approx(weight("gait", passage(text.replace("*", " "))))

    def test_saying_a_word_often_adds_less_and_less(self):
        once, twice, often = (weight("gait", passage(" ".join(["gait"] * n + ["text"] * (9 - n)))) for n in (1, 2, 9))

        assert once < twice < often < 3 * once

    def test_a_word_counts_for_more_in_a_short_passage(self):
        assert weight("gait", passage("gait")) > weight("gait", passage("gait " + "text " * 200))


texts = st.text(max_size=80) | st.lists(
    st.sampled_from(
        [
            "ROS2",
            "nodeName",
            "**bold**",
            "*it*",
            "```",
            "the",
            "ünï",
            "3.5",
            "don't",
            "\n\n",
            "_",
            "\N{MATHEMATICAL SCRIPT CAPITAL X}",
        ]
    ),
    max_size=20,
).map(" ".join)


@given(text=texts, heading=texts, title=texts, path=texts)
def test_every_text_has_a_vector_of_distinct_numbers_of_32_bits(text: str, heading: str, title: str, path: str):
    vector = indexed(passage(text, heading_path=(title, heading), title=title, path=f"/{path}"))

    assert len(set(vector.indices)) == len(vector.indices) == len(vector.values)
    assert all(0 <= index < 2**32 for index in vector.indices)
    assert all(0 < value <= analysis.SATURATION + 1 for value in vector.values)


@given(texts)
def test_a_phrase_is_never_taken_for_a_term(text: str):
    terms = ANALYSER.terms(text)

    assert not any(is_phrase(term) for term in terms)
    assert all(is_phrase(phrase) for phrase in phrases(terms))
    assert len(phrases(terms)) == sum(
        first != second and not (first < 0x110000 and second < 0x110000) for first, second in pairwise(terms)
    )


@given(texts)
def test_every_question_has_a_vector(text: str):
    vector = question_vector(ANALYSER.question_terms(words(text)))

    assert len(set(vector.indices)) == len(vector.indices) == len(vector.values)
    assert all(0 <= index < 2**32 for index in vector.indices)


@given(texts)
def test_what_a_text_is_asked_with_is_what_it_is_indexed_under(text: str):
    found = set(indexed(passage(text)).indices)

    assert {term for word in words(text) for term in ANALYSER.word_terms(word)} <= found


def test_what_is_too_long_to_be_a_word_is_analysed_and_not_kept():
    analyser = Analyser()

    assert len(analyser.terms("process " + "x" * 5_000)) == 2
    assert set(analyser._words) == {"process"}
