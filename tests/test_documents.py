"""What everything passes around about pages."""

import pytest

from chatkit_rag.documents import excerpt, page_url


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


class TestAddresses:
    @pytest.mark.parametrize(
        ("anchor", "address"),
        [
            ("", "https://x.org/a%20b"),
            ("why", "https://x.org/a%20b#why"),
            ("ros-2-\N{ARABIC LETTER NOON}.1%20", "https://x.org/a%20b#ros-2-\N{ARABIC LETTER NOON}.1%20"),
            ('a b\n"c"<i>', "https://x.org/a%20b#a%20b%0A%22c%22%3Ci%3E"),
        ],
    )
    def test_an_anchor_stands_as_the_site_has_it_but_for_what_no_address_can_hold(self, anchor: str, address: str):
        assert page_url("https://x.org/", "/a b", anchor) == address
