"""How pages are cut into passages."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Document, Passage, Section
from chatkit_rag.ingestion.markdown import read_sections
from chatkit_rag.ingestion.passages import LEAST_WORDS, MOST_WORDS, count_words, cut_blocks, cut_passages


def document(*sections: Section, path: str = "/week-1/nodes", **metadata: Any) -> Document:
    return Document(path=path, title="Nodes", sections=sections, metadata=metadata)


def section(*blocks: str, anchor: str = "one") -> Section:
    return Section(heading_path=("Nodes", "One"), anchor=anchor, blocks=blocks)


def cut(page: Document) -> list[Passage]:
    return cut_passages(page, site="course", base_url="https://x.org/docs/")


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{number}" for number in range(count))


def sentences(count: int, length: int = 10, word: str = "Word") -> str:
    return " ".join(f"{words(length, f'{word}{number}-')}." for number in range(count))


class TestPassages:
    def test_a_passage_says_where_it_stands(self):
        [passage] = cut(document(section("First.", "Second."), module=1, tags=["a"], nested={"a": 1}, nothing=None))

        assert passage.text == "First.\n\nSecond."
        assert passage.heading_path == ("Nodes", "One")
        assert passage.url == "https://x.org/docs/week-1/nodes#one"
        assert (passage.site, passage.path, passage.anchor, passage.title) == (
            "course",
            "/week-1/nodes",
            "one",
            "Nodes",
        )
        assert passage.metadata == {"module": 1, "tags": ["a"]}

    def test_a_section_without_text_has_none(self):
        assert cut(document(section(), section("", " \n"))) == []

    def test_short_sections_are_not_merged(self):
        passages = cut(document(section("A.", anchor="a"), section("B.", anchor="b")))

        assert [passage.text for passage in passages] == ["A.", "B."]

    def test_ids_depend_on_the_place_alone(self):
        before = cut(document(section(words(400)), section("Text.", anchor="b")))
        after = cut(document(section("Rewritten."), section("Text, edited.", anchor="b")))
        elsewhere = cut_passages(document(section("Text.", anchor="b")), site="other", base_url="")

        assert before[-1].id == after[-1].id != elsewhere[-1].id
        assert before[0].id == after[0].id != before[1].id

    def test_two_headings_with_one_anchor_have_different_ids(self):
        passages = cut(document(section("A."), section("B.")))

        assert passages[0].id != passages[1].id

    @given(st.lists(st.tuples(st.integers(2, 4), st.integers(0, 400)), max_size=8))
    def test_no_passage_spans_headings_and_every_word_stays_under_its_own(self, shape: list[tuple[int, int]]):
        body = "\n\n".join(
            f"{'#' * level} H{i}\n\n{sentences(size // 10, word=f's{i}-')}" for i, (level, size) in enumerate(shape)
        )
        title, sections = read_sections(body, title="Nodes", fallback="", mdx=True)
        page = Document(path="/", title=title, sections=sections)

        passages = cut(page)

        for read in sections:
            own = [passage.text for passage in passages if passage.heading_path == read.heading_path]
            assert " ".join(own).split() == " ".join(read.blocks).split()


class TestCutting:
    def test_up_to_220_words_are_one_piece(self):
        assert len(cut_blocks((words(100), words(120)))) == 1
        assert len(cut_blocks((words(100), words(121)))) == 2

    def test_pieces_end_between_blocks_and_are_even(self):
        blocks = tuple(words(40, f"b{number}-") for number in range(11))

        pieces = cut_blocks(blocks)

        assert sorted(map(count_words, pieces)) == [120, 160, 160]
        assert "\n\n".join(pieces).split("\n\n") == list(blocks)

    def test_there_is_no_tiny_rest_where_that_can_be_avoided(self):
        pieces = cut_blocks(tuple(words(size) for size in (100, 100, 20, 100, 15)))

        assert min(map(count_words, pieces)) > 100

    def test_a_cut_between_blocks_goes_before_an_even_one_within(self):
        pieces = cut_blocks((words(170), sentences(40)))

        assert [count_words(piece) for piece in pieces] == [170, 200, 200]

    def test_a_long_paragraph_is_cut_at_the_ends_of_sentences(self):
        pieces = cut_blocks((sentences(100),))

        assert all(LEAST_WORDS <= count_words(piece) <= MOST_WORDS and piece.endswith(".") for piece in pieces)
        assert " ".join(pieces) == sentences(100)

    @pytest.mark.parametrize(
        "end",
        [". ", "! ", "? ", ".” ", "\u06d4 ", "\u061f ", "… "],
        ids=["stop", "bang", "question", "quote", "urdu", "arabic", "dots"],
    )
    def test_sentences_end_in_many_scripts(self, end: str):
        sentence = words(60, "W")

        pieces = cut_blocks(((sentence + end) * 6,))

        assert len(pieces) > 1
        assert all(piece.startswith("W0 ") for piece in pieces)

    def test_scripts_without_spaces_are_measured_and_cut_too(self):
        text = "これは日本語の文章です。" * 100

        pieces = cut_blocks((text,))

        assert "".join(pieces) == text
        assert all(piece.endswith("。") and count_words(piece) <= MOST_WORDS for piece in pieces)

    def test_words_without_any_end_are_cut_all_the_same(self):
        pieces = cut_blocks((words(1_000),))

        assert " ".join(pieces) == words(1_000)
        assert max(map(count_words, pieces)) <= MOST_WORDS

    def test_a_long_list_is_cut_at_its_items(self):
        items = [f"- {words(30, f'i{number}-')}\n  - {words(10, f'n{number}-')}" for number in range(20)]

        pieces = cut_blocks(("\n".join(items),))

        assert len(pieces) > 3
        assert all(piece.startswith("- i") for piece in pieces)
        assert "\n".join(pieces) == "\n".join(items)

    def test_a_table_of_a_long_row_alone_is_a_passage(self):
        table = f"| {'word ' * 300}| b |\n| --- | --- |"

        assert cut_blocks((table,)) == [table]

    def test_a_long_table_repeats_its_header(self):
        header = "| Name | Use |\n| --- | --- |"
        rows = [f"| n{number} | {words(20)} |" for number in range(40)]

        pieces = cut_blocks(("\n".join([header, *rows]),))

        assert len(pieces) > 3
        assert all(piece.startswith(header + "\n| n") and count_words(piece) <= MOST_WORDS for piece in pieces)
        assert [row for piece in pieces for row in piece.split("\n")[2:]] == rows

    def test_a_fence_is_never_cut(self):
        fence = f"```text\n{words(300)}\n\n{words(300)}\n```"
        in_a_list = f"- {words(100)}\n\n  ```\n" + "\n".join(["  code - line"] * 200) + f"\n  ```\n- {words(100)}"

        assert cut_blocks((words(100), fence, words(100))) == [words(100), fence, words(100)]
        assert any(piece.count("code - line") == 200 for piece in cut_blocks((in_a_list,)))

    @pytest.mark.parametrize("line", ["one line of a log", "", "x" * 50_000])
    def test_unless_it_is_longer_than_a_model_could_be_given(self, line: str):
        code = "\n".join(f"{number} {line}" for number in range(20_000 if len(line) < 100 else 4))

        pieces = cut_blocks((f"The log:\n\n```text\n{code}\n```", "The end."))

        assert max(map(len, pieces)) < 21_000
        assert all(piece.count("```") == 2 for piece in pieces if "```" in piece)
        kept = [line for piece in pieces for line in piece.split("\n") if not line.startswith("```")]
        assert "".join(kept) == f"The log:{code}The end.".replace("\n", "")

    def test_a_word_without_an_end_is_no_passage_of_its_length(self):
        pieces = cut_blocks(("Data: " + "x" * 1_000_000,))

        assert max(map(len, pieces)) <= 20_000
        assert "".join(pieces).count("x") == 1_000_000

    @pytest.mark.parametrize("size", [30, 150, 400])
    def test_a_fence_stays_with_the_words_that_introduce_it(self, size: int):
        fence = f"```text\n{words(size)}\n```"

        pieces = cut_blocks((words(180), "Run this now", fence, words(160)))

        assert any(f"Run this now\n\n{fence}" in piece for piece in pieces)

    def test_a_list_stays_with_the_line_that_announces_it(self):
        pieces = cut_blocks((words(150), "What you need:", f"- {words(60)}", words(120)))

        assert any("What you need:\n\n- word0" in piece for piece in pieces)

    @given(
        st.lists(
            st.one_of(
                st.integers(1, 500).map(words),
                st.integers(1, 60).map(sentences),
                st.integers(1, 60).map(lambda count: "\n".join(f"- {words(count % 9 + 1)}" for _ in range(count))),
                st.integers(1, 400).map(lambda count: f"```\n{words(count)}\n```"),
                st.text("ab.?!。 -`\n:|>", min_size=1, max_size=80).filter(str.strip),
            ),
            max_size=12,
        )
    )
    def test_every_word_survives_in_order_and_only_fences_are_long(self, blocks: list[str]):
        pieces = cut_blocks(tuple(blocks))

        assert " ".join(pieces).split() == " ".join(block for block in blocks if block.strip()).split()
        for piece in pieces:
            assert piece.strip()
            assert count_words(piece) <= MOST_WORDS or "```" in piece

    @given(st.text(max_size=200))
    def test_any_text_can_be_cut(self, text: str):
        pieces = cut_blocks((text, text * 40))

        assert "".join(re.sub(r"\s", "", piece) for piece in pieces).startswith(re.sub(r"\s", "", text))
