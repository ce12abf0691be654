"""What a word is, in any script."""

# ruff: noqa: RUF001 - other scripts are what this is about

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval import segmentation
from chatkit_rag.retrieval.analysis import Analyser
from chatkit_rag.retrieval.counting import Reading
from chatkit_rag.retrieval.segmentation import glued_names, pieces, words

FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में किताब", ["हिंदी", "में", "किताब"]),  # vowel signs and conjuncts hold a word together
        ("நடக்கும் ரோபோ", ["நடக்கும்", "ரோபோ"]),
        ("روبوٹ، چلتا ہے۔", ["روبوٹ", "چلتا", "هے"]),
        ("用Python编写ROS2节点", ["用", "python", "编写", "ros", "2", "节点"]),
        ("ロボットは歩く", ["ロボット", "歩"]),  # one hiragana alone is a particle or an ending
        ("로봇은 걷는다", ["로봇은", "걷는다"]),
        ("หุ่นยนต์เดินได้", ["หุ่นยนต์เดินได้"]),
    ],
)
def test_every_script_is_cut_where_its_words_end(text: str, expected: list[str]):
    found = words(text)

    assert found == [word.translate(str.maketrans("یکہ", "يكه")) for word in expected]


def test_words_without_spaces_are_pairs_of_letters_and_a_letter_of_han_is_one_too():
    assert pieces("机器人") == ["机器", "器人", "机", "器", "人"]
    assert pieces("ロボット") == ["ロボ", "ボッ", "ット"]
    assert pieces("树") == ["树"]
    assert pieces("로봇") == ["로봇"]


def test_a_mark_stays_with_the_letter_that_it_is_written_on():
    assert pieces("หุ่น") == ["หุ่น"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("کتاب", "كتاب"),  # Urdu's kaf and the Arabic keyboard's
        ("روشنی", "روشني"),
        ("كِتَابٌ", "كتاب"),  # vowel marks
        ("كتــــاب", "كتاب"),  # lengthened
        ("می‌خواهم", "میخواهم"),  # a joiner between two parts of a word
        ("हिन्दी", "हिंदी"),
        ("चाँद", "चांद"),
        ("फ़िल्म", "फिल्म"),
        ("क्‍या", "क्या"),
        ("۲۰۲۴", "2024"),
        ("२०२४", "2024"),
        ("ロボット", "ﾛﾎﾞｯﾄ"),  # half width
        ("Ｐｙｔｈｏｎ", "python"),
        ("co\u00adoperate", "cooperate"),
        ("ΛΌΓΟΣ", "λόγοσ"),
    ],
)
def test_what_is_typed_in_two_ways_is_one_word(one: str, other: str):
    assert words(one) == words(other) != []


SCRIPTS = st.text(
    st.characters(codec="utf-8", categories=("L", "M", "N"), max_codepoint=0x30FF)
    | st.sampled_from(" .-_،。機器人로봇각ｶﾞ"),
    max_size=40,
)
ANALYSERS = [Analyser(language=language) for language in ("english", "urdu", "hindi", "arabic", "chinese", "german")]


@given(st.text("aZ_.:-1 é", max_size=12))
def test_no_name_of_code_is_overlooked_where_there_may_be_none(text: str):
    if segmentation._CODE.search(text):
        assert segmentation._MAY_BE_CODE.search(text)


@given(SCRIPTS | st.text(max_size=40))
def test_words_are_words_again(text: str):
    found = words(text)

    assert words(" ".join(found)) == found


def page(text: str) -> Passage:
    return Passage(
        id=str(uuid.UUID(int=1)),
        path="/page",
        anchor="",
        title=text,
        heading_path=(text, text),
        text=f"{text} **{text}**",
        url="/page",
    )


@given(SCRIPTS | st.text(max_size=40), st.sampled_from(ANALYSERS))
def test_equal_text_has_equal_vectors_whatever_its_unicode_form(text: str, analyser: Analyser):
    vectors = [
        (
            analyser.question_terms(words(form)),
            *Reading([page(form)], analyser).vectors(100.0),
        )
        for form in (unicodedata.normalize(name, text) for name in FORMS)
    ]

    assert vectors[1:] == vectors[:-1]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("what is ros2_control and std::mem", ["ros2_control", "std::mem"]),
        ("the price of a g1, or an H1", ["g1", "H1"]),
        ("ROS2 in week 3 of 2026, e.g. main.py", []),
        ("a well-known thing", []),
    ],
)
def test_names_that_mean_nothing_in_parts_are_found(text: str, names: list[str]):
    assert glued_names(text) == names
