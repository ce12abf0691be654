"""Citations out of a model's text, however the text is cut into pieces."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatkit_rag.agent.citations import CitationReader
from chatkit_rag.documents import Citation, Passage

PASSAGES = [
    Passage(id=str(number), path="/p", anchor="", title="P", heading_path=("P",), text="", url=f"/p#{number}")
    for number in range(1, 6)
]

FRAGMENTS = st.sampled_from(
    [
        *("a", "é", "🤖", ".", " ", "\t", "\n", "\n\n", "\n \n", "`", "``", "```", "```py\n"),
        *("[1]", "[2]", " [3]", "[1][2]", "[1, 2]", "[9]", "[0]", "[12345]", "[^1]", "[1", "[", "]", ",", "1", "2 "),
        "[1,2,3,4,5,1,2,3,4,5,1,2,3,4,5,1,2]",
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)


def read(*pieces: str) -> CitationReader:
    reader = CitationReader(PASSAGES)
    for piece in pieces:
        reader.feed(piece)
    reader.close()
    return reader


def found(reader: CitationReader) -> list[tuple[int, int]]:
    return [(citation.number, citation.index) for citation in reader.citations]


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(max_examples=500)
@given(cut_texts())
@example(list("Yes [1, 2]."))
@example(["a `b\n\n", "c [1]"])
@example(list("[1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3]"))
def test_the_cuts_make_no_difference(pieces: list[str]):
    whole, cut = read("".join(pieces)), read(*pieces)

    assert (cut.text, found(cut), cut.unknown) == (whole.text, found(whole), whole.unknown)


@given(cut_texts())
def test_what_comes_out_piece_by_piece_is_the_text_and_the_citations_in_order(pieces: list[str]):
    reader = CitationReader(PASSAGES)

    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.close()

    assert "".join(part for part in parts if isinstance(part, str)) == reader.text
    assert [part for part in parts if isinstance(part, Citation)] == reader.citations
    indexes = [citation.index for citation in reader.citations]
    assert indexes == sorted(indexes)
    assert all(0 <= index <= len(reader.text) for index in indexes)


@given(st.lists(st.sampled_from(["a", " ", "\n", "\n\n", "`", "```", ".", "(", "]", "é"]), max_size=20).map("".join))
def test_a_text_without_brackets_is_left_as_it_is(text: str):
    assert read(text).text == text


@pytest.mark.parametrize(
    ("written", "text", "citations"),
    [
        ("Spin it [1].", "Spin it.", [(1, 7)]),
        ("Spin it[1].", "Spin it.", [(1, 7)]),
        ("Both [1][2].", "Both.", [(1, 4), (2, 4)]),
        ("Both [1] [2].", "Both.", [(1, 4), (2, 4)]),
        ("Both [1, 2].", "Both.", [(1, 4), (2, 4)]),
        ("Both [1,2].", "Both.", [(1, 4), (2, 4)]),
        ("Twice [1][1].", "Twice.", [(1, 5)]),
        ("One [1] and again [1].", "One and again.", [(1, 3), (1, 13)]),
        ("[3] first", " first", [(3, 0)]),
        ("é🤖 [1]", "é🤖", [(1, 2)]),
        ("A list [a], a link [^1], a range [1-2], [] and [ 1 ]", None, []),
        ("An end without one [1", None, []),
    ],
)
def test_markers_leave_the_text_and_stand_where_they_stood(written: str, text: str | None, citations: list):
    reader = read(written)

    assert reader.text == (written if text is None else text)
    assert found(reader) == citations


def test_numbers_that_name_no_passage_vanish_and_are_counted():
    reader = read("Yes [9]. No [0, 2]. Maybe [6][999].")

    assert reader.text == "Yes. No. Maybe."
    assert found(reader) == [(2, 7)]
    assert reader.unknown == 4


@pytest.mark.parametrize(
    "written",
    [
        "Use `a[1]` here",
        "Use ``a ` [1]`` here",
        "```py\na[1]\n\nb[2]\n```\n",
        "````\n```\na[1]\n```\n````",
        "```py\nstill open [1]\n\n[2]",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_brackets_in_code_are_code(written: str, size: int):
    reader = read(*(written[start : start + size] for start in range(0, len(written), size)))

    assert reader.text == written
    assert found(reader) == []


@pytest.mark.parametrize(
    ("written", "citations"),
    [
        ("Use `a[1]`, then [2].", [(2, 16)]),
        ("```\nx[1]\n```\nDone [2].", [(2, 17)]),
        ("A stray ` here.\n\nThen [1].", [(1, 21)]),
        ("A stray ` here.\n \t\nThen [1].", [(1, 23)]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_code_ends_where_markdown_ends_it(written: str, citations: list, size: int):
    reader = read(*(written[start : start + size] for start in range(0, len(written), size)))

    assert found(reader) == citations


def test_nothing_but_a_possible_marker_is_held_back():
    reader = CitationReader(PASSAGES)

    assert reader.feed("Spin it [1") == ["Spin it"]
    assert reader.feed("] now") == [Citation(number=1, passage=PASSAGES[0], index=7), " now"]


def test_a_passage_that_is_found_while_the_answer_is_written_can_be_cited():
    passages = PASSAGES[:1]
    reader = CitationReader(passages)
    reader.feed("One [2].")
    passages.append(PASSAGES[1])

    reader.feed(" Two [2].")

    assert found(reader) == [(2, 8)]
    assert reader.unknown == 1


def test_what_no_database_can_hold_is_left_out():
    reader = CitationReader([])

    parts = [*reader.feed("A no\0de"), *reader.feed("\0"), *reader.feed(" runs."), *reader.close()]

    assert "".join(map(str, parts)) == reader.text == "A node runs."
