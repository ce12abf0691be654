"""What everything passes around about pages."""

import pytest

from chatkit_rag.documents import excerpt


class TestExcerpts:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Plain.", "Plain."),
            ("Before.\n\n```py\ncode[1]\n\nmore\n```\n\nAfter.", "Before. After."),
            ("Before.\n\n```py\nnever closed", "Before."),
            ("# Head\n\n- one\n- `two`\n\n> **said**", "Head one two said"),
            ("1. first\n2. second", "first second"),
        ],
    )
    def test_they_are_prose_without_code_and_marks(self, text: str, shown: str):
        assert excerpt(text) == shown

    def test_they_are_cut_between_words(self):
        cut = excerpt("word " * 100)

        assert cut.endswith("word …")
        assert len(cut) <= 202
